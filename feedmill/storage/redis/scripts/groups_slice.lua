-- Read a page of groups, newest first, with the feed's state.
-- KEYS: groups by score (ZSET), state and records (HASH)
-- ARGV: first rank, last rank
-- Returns: {state, group, record, group, record, …}
local names = redis.call('ZREVRANGE', KEYS[1], ARGV[1], ARGV[2])
local records = redis.call('HMGET', KEYS[2], '\0m', unpack(names))
local m = records[1] or '0'
local out = {string.sub(m, string.byte(m) == 49 and 23 or 2)}
for i = 1, #names do
  out[2 * i] = names[i]
  out[2 * i + 1] = records[i + 1]
end
return out
