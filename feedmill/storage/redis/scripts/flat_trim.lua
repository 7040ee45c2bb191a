-- Cut a flat timeline back to its newest ids.
-- KEYS: timeline, as in flat_add.lua
-- ARGV: length, front of the feed's channel ('': nothing is published)
-- Returns: 0
local keep, size = tonumber(ARGV[1]) * 16, redis.call('STRLEN', KEYS[1])
if keep == 0 then redis.call('DEL', KEYS[1])
elseif size > keep then redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], -keep, -1)) end
if size > keep and ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2] .. ':' .. KEYS[1], '{}') end
return 0
