-- Open a fan-out, or open it again, and put it among what is due: the last thing that was asked for is what is done,
-- whatever was asked before.
-- KEYS: clock (STRING), record (HASH), chunks (HASH), due (ZSET: fan-out -> ms), wake-up message (STRING), the author's bucket
--   (STRING: ms when it will be empty)
-- ARGV: see the names below. chunk: the only one if it is sent at once, and then due when the lease is over, or ''; feeds:
--   names of those that it is for, each between two line ends; wake-up message: ms that it counts as on its way; fill: ms that each fan-out fills
--   the bucket by, or 0 for no limit; holds: ms that the bucket holds; lease in ms, keep in seconds; absorbs: ops, each between
--   two line ends, whose work it does as well where that is not done, or is to be done again, and then its own op is becomes; tells: given, and not '', if a hook is told when it has ended; trace: given if it
--   belongs to a trace: the context of that, or '=' for the one that the record has
-- Returns: {its generation, id of the dead letter that this makes pointless or '', op, 1 if the caller is to send the
--   wake-up message: 0 if one is on its way, or if it is for later}
-- What was asked before may be running; then this is to be done again when that has ended, also where it is the same to the
-- dead letter: who still runs may have seen the opposite meanwhile, of a pair or of an activity that other records are about, have
-- made that, and die before it makes what is so now. And again a lease after that: where the clock leaps ahead, what was
-- asked before has not ended yet when its lease has.
-- Once that is over, and one worker alone did the last of it, nothing that ran before is left: what is asked for next is done once.
-- Who unfollowed since the people of that were listed may hold what it wrote.
-- include: journal
local name, lease, keep, op, manager, body, chunk, feeds, wakeup_id, fill, holds, absorbs, becomes, tells, trace = unpack(ARGV)
local r, chunks, due, bucket = KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local previous = redis.pcall('HMGET', r, 'generation', 'op', 'claimed', 'finished', 'cancelled', 'attempts', 'retried', 'rerun_at', 'dead', 'dead_letter', 'audience_read_at', 'alone', 'previous_progress', 'tells', 'trace')
if previous.err then previous = {} end -- it holds no fan-out record, and is replaced
local old_plan, old_op, claimed, finished_at, cancelled, attempts, retried, asked, dead, dead_letter, audience_read_at, alone, running, told, old_trace = unpack(previous, 1, 15)
local rerun_at = number(asked)
if old_op then
  local twice = cancelled or (not alone and (retried or number(attempts) > 1))
  local absorbed = (not finished_at or dead or asked) and string.find(absorbs, '\n' .. old_op .. '\n', 1, true)
  if absorbed then op = becomes end
  if claimed and (twice or not finished_at or running) then rerun_at = math.max(rerun_at, now + lease) end
end
local at, level = now, nil
if chunk ~= '' then at = now + lease + 0.5 -- as a claim: nothing that was put in by the clock has the same
elseif fill ~= '0' then
  local held = redis.pcall('GET', bucket)
  level = math.max(now, number(type(held) == 'string' and held)) + fill
  at = math.max(now, math.floor(level - holds))
end
local put = redis.pcall('ZADD', due, string.format('%.1f', at), name)
if type(put) == 'table' then return failed(put, due) end
if old_op and told and not finished_at then tell(due, name, r, 'replaced') end
call('UNLINK', r, chunks)
local generation = next_generation(old_plan)
call('HSET', r, 'generation', generation, 'op', op, 'manager', manager, 'body', body, 'created', whole(now), 'feeds', feeds)
if tells and tells ~= '' then call('HSET', r, 'tells', 1) end
if trace == '=' then trace = old_trace end
if trace then call('HSET', r, 'trace', trace) end
if rerun_at > 0 then call('HSET', r, 'rerun_at', whole(rerun_at), 'repeat_after', lease, 'audience_read_at', audience_read_at or 0) end
dead_letter = dead or dead_letter -- kept, since whoever was to drop it may have died
if dead_letter then call('HSET', r, 'dead_letter', dead_letter) end
if chunk ~= '' then
  call('HSET', r, 'planned', 1, 'fully_planned', 1, 'claimed', whole(now), 'due', string.format('%.1f', at))
  call('HSET', chunks, generation .. '.0', chunk)
  call('EXPIRE', chunks, keep)
end
call('EXPIRE', r, keep)
if level then call('SET', bucket, string.format('%.3f', level), 'PX', math.ceil(level - now)) end
keep_clock()
local wake = chunk == '' and at <= now and call('SET', KEYS[5], 1, 'NX', 'PX', wakeup_id)
return {generation, dead_letter or '', op, wake and 1 or 0}
