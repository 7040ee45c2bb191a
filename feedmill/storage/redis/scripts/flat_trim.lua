-- Cut a flat timeline back to its newest ids.
-- KEYS: timeline, as in flat_add.lua
-- ARGV: length
-- Returns: 0
local keep = tonumber(ARGV[1]) * 16
if keep == 0 then redis.call('DEL', KEYS[1])
elseif redis.call('STRLEN', KEYS[1]) > keep then redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], -keep, -1)) end
return 0
