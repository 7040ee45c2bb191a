-- Look later at feeds among whose pending writes something was left, or forget them; each only if nobody noted it anew meanwhile.
-- KEYS: left (ZSET: owner -> ms)
-- ARGV: for each the owner, its time, and the ms from now to put it off, or -1 to forget it
-- Returns: nothing
local call, clock = redis.call, redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 1, #ARGV, 3 do
  local time = call('ZSCORE', KEYS[1], ARGV[i])
  if time and tonumber(time) == tonumber(ARGV[i + 1]) then
    if tonumber(ARGV[i + 2]) < 0 then call('ZREM', KEYS[1], ARGV[i])
    else call('ZADD', KEYS[1], string.format('%.2f', now + ARGV[i + 2] - 0.25), ARGV[i]) end
  end
end
