-- Let a lock go that nobody will: of a feed whose lock ends too far ahead.
-- KEYS: state and records (HASH)
-- ARGV: the end of the lock, as it stands behind its token
-- Returns: 1, or 0 if the lock is another one meanwhile
local m = redis.call('HGET', KEYS[1], '\0m') or ''
if string.sub(m, 1, 1) ~= '1' or string.sub(m, 10, 22) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], '\0m', '0' .. string.sub(m, 23))
return 1
