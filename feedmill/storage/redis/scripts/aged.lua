-- Read the count of a feed and its oldest groups, which may be too old to be counted.
-- KEYS: groups by score (ZSET), state and records (HASH) and, with counts, the count (STRING)
-- ARGV: the score below which groups are wanted, or '-inf' or '+inf'
-- Returns: {count or false, lowest score or false, state, group, score, record, …}; the state only with groups
local call, z, h, below = redis.call, KEYS[1], KEYS[2], ARGV[1]
local lowest = call('ZRANGE', z, 0, 0, 'WITHSCORES')[2] or false
local out = {KEYS[3] and call('GET', KEYS[3]) or false, lowest, ''}
if below == '-inf' or not lowest or (below ~= '+inf' and tonumber(lowest) >= tonumber(below)) then return out end
local m = call('HGET', h, '\0m') or '0'
out[3] = string.sub(m, string.byte(m) == 49 and 23 or 2)
local found = call('ZRANGEBYSCORE', z, '-inf', below == '+inf' and below or '(' .. below, 'WITHSCORES')
for i = 1, #found, 2 do
  local n = 3 + 3 * (i - 1) / 2
  out[n + 1], out[n + 2], out[n + 3] = found[i], found[i + 1], call('HGET', h, found[i])
end
return out
