-- Note that a chunk is done, once; after the last one its fan-out is finished and no longer due. Or that it failed, and whoever
-- began it lives.
-- KEYS: clock (STRING), record (HASH), chunks (HASH), due (ZSET: fan-out -> ms)
-- ARGV: fan-out, generation, number, people reached or '' if it failed, seconds to keep the record of a finished fan-out
-- Returns: {1 if the chunk was counted, 0 if it was before, or if the fan-out is only repeated; chunks planned; chunks done; people reached;
--   ms since the fan-out was opened; 1 if it ended with this, for the first time}; or, of what failed, 1; 0 if the generation is no longer
--   the current one, or what failed is done
-- include: journal
local r, chunks, due = KEYS[2], KEYS[3], KEYS[4]
local name, generation, chunk, reached, keep = unpack(ARGV)
local got = call('HMGET', r, 'generation', 'done', 'reached', 'fully_planned', 'planned', 'due', 'rerun_at', 'claimed', 'repeat_after', 'finished', 'tells', 'created')
if got[1] ~= generation then return 0 end
local at = redis.pcall('ZSCORE', due, name)
if type(at) == 'table' then return failed(at, due) end
local field, done = generation .. '.' .. chunk, number(got[2])
if reached == '' then
  if call('HEXISTS', chunks, field) == 0 then return 0 end
  local begun, survived = number(call('HGET', chunks, 'begun:' .. field)), number(call('HGET', chunks, 'lived:' .. field))
  call('HSET', chunks, 'lived:' .. field, whole(math.min(begun, survived + 1)))
  return 1
end
local first, total, ended = call('HEXISTS', chunks, field), number(got[3]), 0
if first == 1 then
  done, total = done + 1, total + reached
  call('HSET', r, 'done', whole(done), 'reached', whole(total))
  call('HDEL', chunks, field, 'begun:' .. field, 'lived:' .. field)
end
if got[4] == '1' and number(got[5]) == done then
  ended = got[10] and 0 or 1
  local rerun_at = finished(due, name, r, keep, {}, unpack(got, 7, 11))
  if tonumber(at or 0) == number(got[6]) then conclude(due, name, rerun_at) end
  call('UNLINK', chunks)
end
return {got[10] and 0 or first, number(got[5]), done, total, age(got[12], now), ended}
