-- Put a fan-out among those to be looked at, and say whether a bell is to be rung.
-- KEYS: due (ZSET: fan-out -> ms), bell (STRING), the author's bucket (STRING: ms when it will be empty)
-- ARGV: fan-out, its time or '' for now, ms that a bell stays rung or 0 for no bell, ms that each fan-out fills the
--   bucket by or 0 for no limit, ms that the bucket holds
-- Returns: 1 if the caller is to send the bell, 0 if one is on its way, or if it is for later as the bucket is full
local call, time = redis.call, ARGV[2]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if time == '' then time = now end
if ARGV[4] ~= '0' then
  local level = math.max(now, tonumber(call('GET', KEYS[3]) or 0) or 0) + ARGV[4]
  call('SET', KEYS[3], level, 'PX', math.ceil(level - now))
  time = math.max(time, math.floor(level - ARGV[5]))
end
call('ZADD', KEYS[1], time, ARGV[1])
if ARGV[3] == '0' or tonumber(time) > now then return 0 end
return call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[3]) and 1 or 0
