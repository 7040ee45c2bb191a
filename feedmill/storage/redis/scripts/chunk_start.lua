-- Whether a chunk is still to be done; and count how often it was begun.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: plan, number; then, if that matters, names of the feeds that the caller knows, each between two line ends
-- Returns: 0 if it is done or no longer wanted, -1 if it is for a feed that the caller does not know, else how often it has
--   been begun, this time included
local call, field = redis.call, ARGV[1] .. '.' .. ARGV[2]
if call('HEXISTS', KEYS[2], field) == 0 then return 0 end
for name in string.gmatch(ARGV[3] and call('HGET', KEYS[1], 'feeds') or '', '[^\n]+') do
  if not string.find(ARGV[3], '\n' .. name .. '\n', 1, true) then return -1 end
end
local times = call('HINCRBY', KEYS[2], 'begun:' .. field, 1)
if times > 1 then call('HINCRBY', KEYS[1], 'retried', 1) end
return times
