-- Cancel a fan-out: what is not begun will not be.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: seconds to keep a finished receipt, op that is meant, or '' for any
-- Returns: 1, or 0 if it was finished, gone, or about something else by now
local call, r = redis.call, KEYS[1]
local got = call('HMGET', r, 'op', 'finished')
if not got[1] or got[2] or (ARGV[2] ~= '' and got[1] ~= ARGV[2]) then return 0 end
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
call('HINCRBY', r, 'plan', 1)
call('HSET', r, 'cancelled', now, 'finished', now)
call('HDEL', r, 'body', 'again', 'feeds')
call('UNLINK', KEYS[2])
call('EXPIRE', r, ARGV[1])
return 1
