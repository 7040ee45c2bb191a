-- Put claimed fan-outs off, or drop them, each only if the claim still holds.
-- KEYS: due (ZSET: fan-out -> ms); to renew claims, what is taken for the bell that they answer (HASH: fan-out -> ms)
-- ARGV: for each the fan-out, the time that proves the claim, and the ms from now to put it off, or -1 to drop it
-- Returns: for each its new time, '' if dropped, 0 if the claim was lost
local call, out = redis.call, {}
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 1, #ARGV, 3 do
  local time = call('ZSCORE', KEYS[1], ARGV[i])
  if not time or tonumber(time) ~= tonumber(ARGV[i + 1]) then out[#out + 1] = 0
  elseif tonumber(ARGV[i + 2]) < 0 then
    call('ZREM', KEYS[1], ARGV[i])
    out[#out + 1] = ''
  else
    out[#out + 1] = string.format('%.2f', now + ARGV[i + 2] - 0.25)
    call('ZADD', KEYS[1], out[#out], ARGV[i])
    if KEYS[2] then
      call('HSET', KEYS[2], ARGV[i], out[#out])
      call('EXPIRE', KEYS[2], math.ceil(ARGV[i + 2] / 1000))
    end
  end
end
return out
