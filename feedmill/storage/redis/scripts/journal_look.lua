-- How much is overdue, and whether a bell is to be rung for it.
-- KEYS: clock (STRING), due (ZSET: fan-out -> ms), bell (STRING)
-- ARGV: ms that a bell stays rung
-- Returns: {how many are overdue, 1 if the caller is to send a bell}
-- include: journal
local count = redis.pcall('ZCOUNT', KEYS[2], '-inf', now)
if type(count) == 'table' then return failed(count, KEYS[2]) end
local ring = count > 0 and call('SET', KEYS[3], 1, 'NX', 'PX', ARGV[1])
keep_clock()
return {count, ring and 1 or 0}
