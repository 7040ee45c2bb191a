-- Note whose lists hold what hooks are to be told. An entry that is there keeps its place, and whoever took it sees that it was
-- noted again.
-- KEYS: bucket (ZSET: owner -> µs)
-- ARGV: owners
-- Returns: nothing
local call, clock = redis.call, redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000000 + clock[2])
for i = 1, #ARGV do
  if call('ZADD', KEYS[1], 'NX', now, ARGV[i]) == 0 then call('ZINCRBY', KEYS[1], 1, ARGV[i]) end
end
