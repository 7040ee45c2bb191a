-- Take the oldest entries out of a bucket of an index, and put those of them that stay behind the newest.
-- KEYS: bucket (LIST)
-- ARGV: how many the oldest are, SHA-1 of them; then the entries that stay
-- Returns: 1, or 0 if others are the oldest meanwhile
local call, oldest = redis.call, tonumber(ARGV[1])
local held = call('LRANGE', KEYS[1], 0, oldest - 1)
if #held ~= oldest or redis.sha1hex(table.concat(held)) ~= ARGV[2] then return 0 end
-- What a full server refuses comes first: then nothing was written.
if #ARGV > 2 then call('RPUSH', KEYS[1], unpack(ARGV, 3)) end
call('LTRIM', KEYS[1], oldest, -1)
return 1
