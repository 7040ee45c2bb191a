-- Whether a chunk is still to be done; and count how often it was begun.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: plan, number
-- Returns: 0 if it is done or no longer wanted, else how often it has been begun, this time included
local call, field = redis.call, ARGV[1] .. '.' .. ARGV[2]
if call('HEXISTS', KEYS[2], field) == 0 then return 0 end
local times = call('HINCRBY', KEYS[2], 'begun:' .. field, 1)
if times > 1 then call('HINCRBY', KEYS[1], 'retried', 1) end
return times
