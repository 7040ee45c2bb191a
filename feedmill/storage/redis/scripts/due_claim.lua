-- Take what is due for as long as the lease lasts, and clear the bell. If there is more than is wanted, the oldest half
-- and the newest half: what is new does not wait behind a crowd.
-- A bell that comes again was not answered to its end: whoever took claims for it is dead, and they are due at once.
-- KEYS: due (ZSET: fan-out -> ms), bell (STRING), what was taken for this bell before (STRING: the time)
-- ARGV: how many, lease (ms), ms that a bell stays rung
-- Returns: {the new time, which proves the claim; 1 if more is due and the caller is to send a bell; fan-outs …}
-- What was put in ends in whole milliseconds, claims in halves, what was put off in quarters: none is taken for another.
local call, limit = redis.call, tonumber(ARGV[1])
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
call('DEL', KEYS[2])
local before = call('GET', KEYS[3])
local ids = before and call('ZRANGEBYSCORE', KEYS[1], before, before, 'LIMIT', 0, limit) or {}
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
while call('ZCOUNT', KEYS[1], at, at) > 0 do at = at + 1 end -- of another claim in this millisecond
local out = {string.format('%.1f', at), 0}
for i = 1, #ids do
  call('ZADD', KEYS[1], out[1], ids[i])
  out[i + 2] = ids[i]
end
if #ids > 0 then call('SET', KEYS[3], out[1], 'PX', ARGV[2]) end
if due > room and call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[3]) then out[2] = 1 end
return out
