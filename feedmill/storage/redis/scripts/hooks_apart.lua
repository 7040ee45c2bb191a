-- Note items of an owner's list as owners of one item each, unless the owner is forgotten; what is noted already stays.
-- KEYS: bucket (ZSET: owner -> µs), attempts (HASH)
-- ARGV: owner, ms from now, how often each item was begun and survived, seconds that attempts are kept; then the items' owners
-- Returns: 1, or 0 if the owner is forgotten
local call, clock = redis.call, redis.call('TIME')
if not call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local at = string.format('%.0f', clock[1] * 1000000 + clock[2] + ARGV[2] * 1000)
for i = 6, #ARGV do
  if call('ZADD', KEYS[1], 'NX', at, ARGV[i]) == 1 then
    call('HSET', KEYS[2], 'b' .. ARGV[i], ARGV[3], 's' .. ARGV[i], ARGV[4])
  end
end
call('EXPIRE', KEYS[2], ARGV[5])
return 1
