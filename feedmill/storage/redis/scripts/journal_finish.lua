-- Note that claimed fan-outs were done whole, each in one piece, and let them go.
-- KEYS: clock (STRING), due (ZSET: fan-out -> ms); records (HASH)
-- ARGV: seconds to keep the record of a finished fan-out; then for each record the fan-out, its generation, how many people were reached, and the time that
--   proves the claim
-- Returns: for each how many ms ago it was opened; -1 if the generation is no longer the current one, or if it ended before and was repeated
-- include: journal
local due, keep, out, rerun_at = KEYS[2], ARGV[1], {}, {}
local wrong = redis.pcall('ZCARD', due)
if type(wrong) == 'table' then return failed(wrong, due) end
local fanout_records = {}
for k = 3, #KEYS do
  local got = redis.pcall('HMGET', KEYS[k], 'generation', 'rerun_at', 'claimed', 'repeat_after', 'finished', 'tells', 'created')
  out[k - 2] = got[1] == ARGV[4 * k - 9] and 1 or 0
  fanout_records[k] = got
end
for k = 3, #KEYS do
  if out[k - 2] == 1 then
    local sets = {'planned', 1, 'done', 1, 'reached', ARGV[4 * k - 8], 'fully_planned', 1}
    rerun_at[k] = finished(due, ARGV[4 * k - 10], KEYS[k], keep, sets, unpack(fanout_records[k], 2, 6))
  end
end
for k = 3, #KEYS do
  local name, time = ARGV[4 * k - 10], ARGV[4 * k - 7]
  local got = fanout_records[k]
  if out[k - 2] == 0 or tonumber(call('ZSCORE', due, name) or 0) ~= tonumber(time) then -- another has it
  else conclude(due, name, rerun_at[k]) end
  out[k - 2] = out[k - 2] == 1 and not got[5] and age(got[7], now) or -1
end
keep_clock()
return out
