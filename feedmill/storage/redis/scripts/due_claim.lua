-- Take what is due, the oldest first, for as long as the lease lasts, and clear the bell.
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
local ids = before and call('ZRANGEBYSCORE', KEYS[1], before, before) or {}
for _, id in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit + 1)) do
  if #ids <= limit then ids[#ids + 1] = id end
end
local out = {string.format('%.1f', now + ARGV[2] + 0.5), 0}
for i = 1, math.min(#ids, limit) do
  call('ZADD', KEYS[1], out[1], ids[i])
  out[i + 2] = ids[i]
end
if #ids > 0 then call('SET', KEYS[3], out[1], 'PX', ARGV[2]) end
if #ids > limit and call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[3]) then out[2] = 1 end
return out
