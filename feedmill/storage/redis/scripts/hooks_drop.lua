-- Take out of a list what was told.
-- KEYS: list
-- ARGV: items
-- Returns: how many are left
for i = 1, #ARGV do redis.call('LREM', KEYS[1], 1, ARGV[i]) end
return redis.call('LLEN', KEYS[1])
