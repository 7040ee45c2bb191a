-- Whether a chunk is still to be done; and count how often it was begun.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: plan, number; then, if that matters, names of the feeds that the caller knows, each between two line ends, and for
--   how many ms a fan-out is left to those that know all of its feeds
-- Returns: {0} if it is done or no longer wanted, {-1} if it is for a feed that the caller does not know, else {how often it
--   has been begun, this time included; when its people were listed, in ms: now, if that is still to be
--   done, as for what is sent at once}
local call, field, clock = redis.call, ARGV[1] .. '.' .. ARGV[2], redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if call('HEXISTS', KEYS[2], field) == 0 then return {0} end
if ARGV[3] then
  local got = call('HMGET', KEYS[1], 'feeds', 'created')
  local young = now - (got[2] or 0) < tonumber(ARGV[4])
  for name in string.gmatch(young and got[1] or '', '[^\n]+') do
    if not string.find(ARGV[3], '\n' .. name .. '\n', 1, true) then return {-1} end
  end
end
local times = call('HINCRBY', KEYS[2], 'begun:' .. field, 1)
if times > 1 then call('HINCRBY', KEYS[1], 'retried', 1) end
return {times, call('HGET', KEYS[1], 'listed') or now}
