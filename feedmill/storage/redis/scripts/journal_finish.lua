-- Note that claimed fan-outs were done whole, each in one piece, and let them go.
-- KEYS: clock (STRING), due (ZSET: fan-out -> ms); receipts (HASH)
-- ARGV: seconds to keep a finished receipt; then for each receipt the fan-out, its plan, how many people were reached, and the time that
--   proves the claim
-- Returns: for each 1, or 0 if the plan is no longer the current one
-- include: journal
local due, keep, out, again = KEYS[2], ARGV[1], {}, {}
local wrong = redis.pcall('ZCARD', due)
if type(wrong) == 'table' then return failed(wrong, due) end
local receipts = {}
for k = 3, #KEYS do
  local got = redis.pcall('HMGET', KEYS[k], 'plan', 'again', 'claimed', 'repeat_after', 'finished')
  out[k - 2] = got[1] == ARGV[4 * k - 9] and 1 or 0
  receipts[k] = got
end
for k = 3, #KEYS do
  if out[k - 2] == 1 then
    local sets = {'planned', 1, 'done', 1, 'reached', ARGV[4 * k - 8], 'complete', 1}
    again[k] = finished(KEYS[k], keep, sets, unpack(receipts[k], 2, 5))
  end
end
for k = 3, #KEYS do
  local name, time = ARGV[4 * k - 10], ARGV[4 * k - 7]
  if out[k - 2] == 0 or tonumber(call('ZSCORE', due, name) or 0) ~= tonumber(time) then -- another has it
  elseif again[k] then call('ZADD', due, string.format('%.2f', again[k] - 0.25), name)
  else call('ZREM', due, name) end
end
keep_clock()
return out
