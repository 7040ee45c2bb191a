-- Cancel a fan-out: what is not begun will not be, and nobody looks at it any more.
-- KEYS: clock (STRING), record (HASH), chunks (HASH), due (ZSET: fan-out -> ms)
-- ARGV: fan-out, seconds to keep the record of a finished fan-out, op that is meant, or '' for any
-- Returns: 1, or 0 if it was finished, gone, or about something else by now
-- include: journal
local r, chunks, due = KEYS[2], KEYS[3], KEYS[4]
local name, keep, op = unpack(ARGV)
local got = call('HMGET', r, 'op', 'finished', 'generation', 'tells')
if not got[1] or got[2] or (op ~= '' and got[1] ~= op) then return 0 end
local at = redis.pcall('ZSCORE', due, name)
if type(at) == 'table' then return failed(at, due) end
call('HSET', r, 'generation', next_generation(got[3]), 'cancelled', whole(now), 'finished', whole(now))
call('HDEL', r, 'body', 'rerun_at', 'feeds')
call('UNLINK', chunks)
call('EXPIRE', r, keep)
call('ZREM', due, name)
if got[4] then tell(due, name, r, 'cancelled') end
return 1
