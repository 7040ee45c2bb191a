-- Note that a chunk failed, and whoever began it lives.
-- KEYS: clock (STRING), receipt (HASH), chunks (HASH)
-- ARGV: plan, number
-- Returns: 1, or 0 if the chunk is done, or the plan no longer the current one
-- include: journal
local field = ARGV[1] .. '.' .. ARGV[2]
if call('HGET', KEYS[2], 'plan') ~= ARGV[1] or call('HEXISTS', KEYS[3], field) == 0 then return 0 end
local begun, lived = number(call('HGET', KEYS[3], 'begun:' .. field)), number(call('HGET', KEYS[3], 'lived:' .. field))
call('HSET', KEYS[3], 'lived:' .. field, whole(math.min(begun, lived + 1)))
return 1
