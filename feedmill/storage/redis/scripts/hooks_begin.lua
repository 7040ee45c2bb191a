-- Write down that a hook is called, right before it is, and hold the bucket meanwhile.
-- KEYS: attempts (HASH), holder (STRING)
-- ARGV: token, lease in ms, seconds that attempts are kept; then owner and how often it was begun, of each
-- Returns: 1, or 0 if somebody else has the bucket
local call = redis.call
if call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
for i = 4, #ARGV, 2 do call('HSET', KEYS[1], 'b' .. ARGV[i], ARGV[i + 1]) end
call('EXPIRE', KEYS[1], ARGV[3])
return 1
