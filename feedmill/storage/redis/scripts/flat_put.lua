-- Replace a flat timeline by a fixed one, unless it has changed since it was read.
-- KEYS: timeline, as in flat_add.lua
-- ARGV: SHA-1 of what was read, what it becomes
-- Returns: 1, or 0 if it has changed
if redis.sha1hex(redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
