-- Take a bucket, and claim what is due in it; one in which nothing is due is let go.
-- KEYS: bucket (ZSET: owner -> µs), attempts (HASH), holder (STRING)
-- ARGV: token, lease in ms, most owners, µs ahead of now beyond which an entry is from before the clock went back
-- Returns: nothing if somebody else has it; else owner, time, begun, survived of each
local call, token, lease, limit, clock = redis.call, ARGV[1], ARGV[2], ARGV[3], redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local holder = call('GET', KEYS[3])
if holder and holder ~= token and call('PTTL', KEYS[3]) <= tonumber(lease) then return false end -- else from before the clock went back
local found = call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', 0, limit)
if #found == 0 then
  found = call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now + ARGV[4]), '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
end
if #found == 0 then
  if holder then call('UNLINK', KEYS[3]) end
  return {}
end
call('SET', KEYS[3], token, 'PX', lease)
local out = {}
for i = 1, #found, 2 do
  local n, tries = #out, call('HMGET', KEYS[2], 'b' .. found[i], 's' .. found[i])
  out[n + 1], out[n + 2], out[n + 3], out[n + 4] = found[i], found[i + 1], tries[1] or '0', tries[2] or '0'
end
return out
