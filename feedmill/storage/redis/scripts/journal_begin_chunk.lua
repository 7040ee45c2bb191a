-- Whether a chunk is still to be done; and count how often it was begun.
-- KEYS: clock (STRING), record (HASH), chunks (HASH)
-- ARGV: generation, number; then, if that matters, names of the feeds that the caller knows, each between two line ends, and for
--   how many ms a fan-out is left to those that know all of its feeds
-- Returns: {0} if it is done or no longer wanted, {-1} if it is for a feed that the caller does not know, else {how often it
--   has been begun, this time included; number of the last unfollow when its people were listed, 0 for what is
--   sent at once; how many of those who began it before never were heard of again; what it is; then, if it belongs to a trace, the
--   context of that}
-- include: journal
local generation, number_, feeds, rolling = unpack(ARGV)
local field = generation .. '.' .. number_
local data = call('HGET', KEYS[3], field)
if not data then return {0} end
local got = call('HMGET', KEYS[2], 'feeds', 'created', 'audience_read_at', 'retried', 'trace')
if feeds then
  local young = now - number(got[2]) < tonumber(rolling)
  for name in string.gmatch(young and got[1] or '', '[^\n]+') do
    if not string.find(feeds, '\n' .. name .. '\n', 1, true) then return {-1} end
  end
end
local times = call('HINCRBY', KEYS[3], 'begun:' .. field, 1)
if times > 1 then
  call('HSET', KEYS[2], 'retried', whole(number(got[4]) + 1))
  call('HDEL', KEYS[2], 'alone')
end
local survived = times > 1 and number(call('HGET', KEYS[3], 'lived:' .. field)) or 0
local out = {times, number(got[3]), math.max(0, times - 1 - survived), data}
if got[5] then out[5] = got[5] end
return out
