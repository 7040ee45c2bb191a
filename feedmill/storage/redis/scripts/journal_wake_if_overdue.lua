-- How much is overdue, and whether a wake-up message is to be sent for it.
-- KEYS: clock (STRING), due (ZSET: fan-out -> ms), wake-up message (STRING)
-- ARGV: ms that a wake-up message counts as on its way
-- Returns: {how many are overdue, 1 if the caller is to send a wake-up message}
-- include: journal
local count = redis.pcall('ZCOUNT', KEYS[2], '-inf', now)
if type(count) == 'table' then return failed(count, KEYS[2]) end
local remaining = call('PTTL', KEYS[3])
local on_its_way = remaining >= 0 and remaining <= tonumber(ARGV[1]) -- a longer one is from before the clock went back
local wake = count > 0 and not on_its_way and call('SET', KEYS[3], 1, 'PX', ARGV[1])
keep_clock()
return {count, wake and 1 or 0}
