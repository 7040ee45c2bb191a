-- Note feeds among whose pending writes something was left, and by when somebody must look whether their holders are alive.
-- KEYS: left (ZSET: owner -> ms)
-- ARGV: ms from now; 'LT' to put nothing off that is noted already, else 'CH'; then the owners of the feeds
-- Returns: nothing
local clock = redis.call('TIME')
local at = clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[1]
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], ARGV[2], at, ARGV[i]) end
