-- Open a fan-out, or open it again: the last thing that was asked for is what is done, whatever was asked before.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: lease (ms), seconds to keep it, op, manager, body, the only chunk if it is sent at once or '', its time in due,
--   names of the feeds that it is for, each between two line ends
-- Returns: {number of the plan, id of the dead letter that this makes pointless, or '', op}
-- What was asked before may be running and be overtaken by this; then this is to be done again when that has ended, unless
-- it is the same to the letter: an update is not the same as the one before.
-- An addition in place of an update that is not finished has that to do as well: it is a redelivery.
local call, r, op = redis.call, KEYS[1], ARGV[3]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = call('HMGET', r, 'plan', 'op', 'claimed', 'finished', 'cancelled', 'attempts', 'retried', 'again', 'dead')
local again, twice = tonumber(was[8] or 0), was[5] or was[7] or tonumber(was[6] or 0) > 1
if op == 'add' and (was[2] == 'update' or was[2] == 'redeliver') and (not was[4] or was[9]) then op = 'redeliver' end
local differs = was[2] ~= op or op == 'update' or op == 'redeliver'
if was[2] and differs and was[3] and (twice or not was[4]) then again = now + ARGV[1] end
call('UNLINK', r, KEYS[2])
local plan = (was[1] or 0) + 1
call('HSET', r, 'plan', plan, 'op', op, 'manager', ARGV[4], 'body', ARGV[5], 'created', now, 'feeds', ARGV[8])
if again > now then call('HSET', r, 'again', again) end
if ARGV[6] ~= '' then
  call('HSET', r, 'planned', 1, 'complete', 1, 'claimed', now, 'due', ARGV[7])
  call('HSET', KEYS[2], plan .. '.0', ARGV[6])
  call('EXPIRE', KEYS[2], ARGV[2])
end
call('EXPIRE', r, ARGV[2])
return {plan, was[9] or '', op}
