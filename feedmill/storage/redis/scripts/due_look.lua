-- How much is overdue, and whether a bell is to be rung for it.
-- KEYS: due (ZSET: fan-out -> ms), bell (STRING)
-- ARGV: ms that a bell stays rung
-- Returns: {how many are overdue, 1 if the caller is to send a bell}
local clock = redis.call('TIME')
local count = redis.call('ZCOUNT', KEYS[1], '-inf', clock[1] * 1000 + math.floor(clock[2] / 1000))
local ring = count > 0 and redis.call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[1])
return {count, ring and 1 or 0}
