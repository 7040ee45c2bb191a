-- Delete a feed of either shape with all that belongs to it. A writer in the middle of a cycle loses its lock.
-- KEYS: timeline (STRING or ZSET), state and records (HASH), count (STRING; the timeline again if there is none)
-- Returns: 0
local groups = redis.call('HKEYS', KEYS[2])
for i = 1, #groups do redis.call('UNLINK', KEYS[2] .. ':' .. groups[i]) end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
return 0
