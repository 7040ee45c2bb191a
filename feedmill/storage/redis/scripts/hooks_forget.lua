-- Forget owners, and those of one item of theirs.
-- KEYS: bucket (ZSET: owner -> µs), attempts (HASH)
-- ARGV: of each: owner, and what owners of one item of its list begin with
-- Returns: nothing
local call = redis.call
local gone, noted = {}, call('ZRANGE', KEYS[1], 0, -1)
for i = 1, #ARGV, 2 do
  gone[#gone + 1] = ARGV[i]
  local beginning = ARGV[i + 1]
  for j = 1, #noted do
    if string.sub(noted[j], 1, #beginning) == beginning then gone[#gone + 1] = noted[j] end
  end
end
for i = 1, #gone do
  call('ZREM', KEYS[1], gone[i])
  call('HDEL', KEYS[2], 'b' .. gone[i], 's' .. gone[i])
end
