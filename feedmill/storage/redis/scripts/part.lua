-- Write down who has unfollowed whom, and forget what is long past.
-- KEYS: who has unfollowed whom (ZSET: pair -> ms)
-- ARGV: seconds to remember it; pairs …
local call, clock = redis.call, redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 2, #ARGV do call('ZADD', KEYS[1], now, ARGV[i]) end
local old = call('ZRANGEBYSCORE', KEYS[1], '-inf', now - 1000 * ARGV[1], 'LIMIT', 0, 1000)
if #old > 0 then call('ZREM', KEYS[1], unpack(old)) end
call('EXPIRE', KEYS[1], ARGV[1])
