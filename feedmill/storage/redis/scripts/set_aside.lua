-- Put a key that holds something of a wrong type out of the way, where somebody may look at it for a while.
-- KEYS: the key, what it is to be called
-- ARGV: the type that it should have, seconds to keep it
-- Returns: 1, or 0 if it is right or gone
local held = redis.call('TYPE', KEYS[1]).ok
if held == 'none' or held == ARGV[1] then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
