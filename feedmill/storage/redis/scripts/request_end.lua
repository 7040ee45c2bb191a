-- Keep the answer to a request, or let somebody else begin it.
-- KEYS: request (HASH)
-- ARGV: token of who began it, the answer or '', seconds for which it is kept
-- Returns: nothing
local call = redis.call
if call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return end
if ARGV[2] ~= '' then call('HSET', KEYS[1], 'answer', ARGV[2]) end
call('HDEL', KEYS[1], 'holder', 'held')
call('EXPIRE', KEYS[1], ARGV[3])
