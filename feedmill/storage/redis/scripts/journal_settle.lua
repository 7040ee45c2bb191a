-- Change the fan-out record if the generation is still the current one; and put off or drop a claim, if it still holds. The
-- time alone does not prove it: two claims of one fan-out may have come in one millisecond.
-- KEYS: clock (STRING), record (HASH); for a claim, due (ZSET: fan-out -> ms)
-- ARGV: fan-out, generation, the time that proves the claim, ms from now to put it off, or -1 to drop it, 1 if it is given up:
--   then it is finished, and its record is kept for ever; number of increments; then field and amount of each; then field and
--   value of what is set; a field without a value is deleted
-- Returns: 1, or 0 if the generation is no longer the current one
-- include: journal
local r, due = KEYS[2], KEYS[3]
local name, generation, time, delay, over, increments = unpack(ARGV, 1, 6)
local at = due and redis.pcall('ZSCORE', due, name)
if type(at) == 'table' then return failed(at, due) end
local current, sets, gone, start = call('HGET', r, 'generation') == generation, {}, {}, 7 + 2 * increments
if current then
  for i = 7, start - 1, 2 do
    sets[#sets + 1], sets[#sets + 2] = ARGV[i], whole(math.max(0, number(call('HGET', r, ARGV[i])) + ARGV[i + 1]))
  end
  for i = start, #ARGV, 2 do
    if ARGV[i + 1] == '' then gone[#gone + 1] = ARGV[i]
    else sets[#sets + 1], sets[#sets + 2] = ARGV[i], ARGV[i + 1] end
  end
  if over == '1' then sets[#sets + 1], sets[#sets + 2] = 'finished', whole(now) end
  if #sets > 0 then call('HSET', r, unpack(sets)) end
  if #gone > 0 then call('HDEL', r, unpack(gone)) end
  if over == '1' then
    call('PERSIST', r)
    if call('HEXISTS', r, 'tells') == 1 then tell(due, name, r, 'dead') end
  end
end
if at and current and tonumber(at) == tonumber(time) then
  if tonumber(delay) < 0 then call('ZREM', due, name)
  else call('ZADD', due, string.format('%.2f', now + delay - 0.25), name) end
end
if due then keep_clock() end
return current and 1 or 0
