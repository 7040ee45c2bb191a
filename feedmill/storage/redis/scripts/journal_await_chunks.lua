-- All chunks of a claimed fan-out are written down: look at them later, or never if they are done by now.
-- KEYS: clock (STRING), record (HASH), chunks (HASH), due (ZSET: fan-out -> ms)
-- ARGV: fan-out, generation, the time that proves the claim, ms from now, chunks planned, chunks sent, seconds to keep the record of a finished fan-out,
--   how many who began it died
-- Returns: as journal_finish_chunk.lua, of no chunk; 0 if the claim is lost or the generation no longer the current one
-- include: journal
local r, chunks, due = KEYS[2], KEYS[3], KEYS[4]
local name, generation, time, delay, planned, sent, keep, deaths = unpack(ARGV)
if call('HGET', r, 'generation') ~= generation then return 0 end
local held = redis.pcall('ZSCORE', due, name)
if type(held) == 'table' then return failed(held, due) end
if tonumber(held or 0) ~= tonumber(time) then return 0 end
local at = string.format('%.2f', now + delay - 0.25)
call('ZADD', due, at, name)
call('HSET', r, 'planned', planned, 'fully_planned', 1, 'due', at, 'sent', sent, 'deaths', deaths)
local got = call('HMGET', r, 'done', 'rerun_at', 'claimed', 'repeat_after', 'finished', 'tells', 'created', 'reached')
local ended = 0
if number(got[1]) == number(planned) then
  ended = got[5] and 0 or 1
  call('UNLINK', chunks)
  conclude(due, name, finished(due, name, r, keep, {}, unpack(got, 2, 6)))
end
keep_clock()
return {0, number(planned), number(got[1]), number(got[8]), age(got[7], now), ended}
