-- Write down chunks before they are sent.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: plan, seconds to keep them; then number and packed chunk of each
-- Returns: 1, or 0 if the plan is no longer the current one
local call = redis.call
if call('HGET', KEYS[1], 'plan') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do call('HSET', KEYS[2], ARGV[1] .. '.' .. ARGV[i], ARGV[i + 1]) end
call('HINCRBY', KEYS[1], 'planned', (#ARGV - 2) / 2)
call('EXPIRE', KEYS[2], ARGV[2])
return 1
