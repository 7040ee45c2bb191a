-- Put one request into the bucket of a caller, which empties steadily.
-- KEYS: bucket (STRING: µs since 1970 when it will be empty)
-- ARGV: µs that a request fills it by, µs that it holds
-- Returns: 0, or ms until there is room; then nothing is changed
local call, clock = redis.call, redis.call('TIME')
local now, fill, holds = clock[1] * 1000000 + clock[2], tonumber(ARGV[1]), tonumber(ARGV[2])
-- What is fuller than it can be is from before the clock went back, or the limits changed.
local level = math.max(now, math.min(tonumber(call('GET', KEYS[1]) or 0) or 0, now + holds)) + fill
if level - now > holds then return math.ceil((level - now - holds) / 1000) end
call('SET', KEYS[1], string.format('%.0f', level), 'PX', math.ceil((level - now) / 1000))
return 0
