-- Say how it ended. An owner that is done goes, unless it was noted again meanwhile.
-- KEYS: bucket (ZSET: owner -> µs), attempts (HASH), holder (STRING)
-- ARGV: token of the holder that lets go, or ''; then of each owner: owner, its time, ms from now or -1 to forget it, and how often it
--   was begun and survived if it failed, else '' and ''
-- Returns: nothing
local call, clock = redis.call, redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
for i = 2, #ARGV, 5 do
  local owner, time, delay, begun, survived = unpack(ARGV, i, i + 4)
  local at = call('ZSCORE', KEYS[1], owner)
  if begun == '' then call('HDEL', KEYS[2], 'b' .. owner, 's' .. owner)
  else call('HSET', KEYS[2], 'b' .. owner, begun, 's' .. owner, survived) end
  if at and tonumber(delay) > 0 then call('ZADD', KEYS[1], string.format('%.0f', now + delay * 1000), owner)
  elseif at and tonumber(at) == tonumber(time) then
    if tonumber(delay) < 0 then call('ZREM', KEYS[1], owner)
    else call('ZADD', KEYS[1], string.format('%.0f', math.max(now, at + 1)), owner) end
  end
end
if ARGV[1] ~= '' and call('GET', KEYS[3]) == ARGV[1] then call('UNLINK', KEYS[3]) end
