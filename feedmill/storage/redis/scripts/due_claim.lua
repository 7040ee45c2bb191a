-- Take what is due for as long as the lease lasts, and clear the bell. If there is more than is wanted, the oldest half
-- and the newest half: what is new does not wait behind a crowd.
-- A bell that comes again was not answered to its end: whoever took claims for it is dead, and they are due at once.
-- KEYS: due (ZSET: fan-out -> ms), bell (STRING), what is taken for this bell (HASH: fan-out -> ms)
-- ARGV: how many, lease (ms), ms that a bell stays rung
-- Returns: {the new time, which proves the claim; 1 if more is due and the caller is to send a bell; fan-outs …}
-- What was put in ends in whole milliseconds, claims in halves and a little, what was put off
-- in quarters: none is taken for another.
local call, limit = redis.call, tonumber(ARGV[1])
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
call('DEL', KEYS[2])
local ids, before = {}, call('HGETALL', KEYS[3])
for i = 1, #before, 2 do
  if #ids < limit and tonumber(call('ZSCORE', KEYS[1], before[i]) or 0) == tonumber(before[i + 1]) then ids[#ids + 1] = before[i] end
end
local room, due = limit - #ids, call('ZCOUNT', KEYS[1], '-inf', now)
local function take(from, to)
  if to < from then return end
  for _, id in ipairs(call('ZRANGE', KEYS[1], from, to)) do ids[#ids + 1] = id end
end
if due > room then
  local old = math.floor(room / 2)
  take(0, old - 1)
  take(due - room + old, due - 1)
else take(0, due - 1) end
local at = now + ARGV[2] + 0.5
local function spelled() return string.format('%.3f', at) end
while call('ZCOUNT', KEYS[1], spelled(), spelled()) > 0 do at = at + 0.001 end -- of another claim in this millisecond
local out, taken = {spelled(), 0}, {}
for i = 1, #ids do
  call('ZADD', KEYS[1], out[1], ids[i])
  out[i + 2], taken[2 * i - 1], taken[2 * i] = ids[i], ids[i], out[1]
end
call('DEL', KEYS[3])
if #ids > 0 then
  call('HSET', KEYS[3], unpack(taken))
  call('EXPIRE', KEYS[3], math.ceil(ARGV[2] / 1000))
end
if due > room and call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[3]) then out[2] = 1 end
return out
