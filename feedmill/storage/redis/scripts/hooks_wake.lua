-- Whether the caller is to send a wake-up message: not if one is on its way.
-- KEYS: wake-up message (STRING)
-- ARGV: ms that a wake-up message counts as on its way
-- Returns: 1 or 0
local remaining = redis.call('PTTL', KEYS[1])
if remaining >= 0 and remaining <= tonumber(ARGV[1]) then return 0 end -- a longer one is from before the clock went back
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
return 1
