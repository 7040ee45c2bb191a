-- Put a fan-out among those to be looked at, and say whether a bell is to be rung.
-- KEYS: due (ZSET: fan-out -> ms), bell (STRING)
-- ARGV: fan-out, its time or '' for now, ms that a bell stays rung or 0 for no bell
-- Returns: 1 if the caller is to send the bell, 0 if one is on its way
local call, time = redis.call, ARGV[2]
if time == '' then
  local clock = call('TIME')
  time = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
call('ZADD', KEYS[1], time, ARGV[1])
if ARGV[3] == '0' then return 0 end
return call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[3]) and 1 or 0
