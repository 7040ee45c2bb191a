-- Cut a flat timeline back to its newest ids, and to those that are not too old.
-- KEYS: timeline, as in flat_add.lua
-- ARGV: length; the time (µs) before which ids are too old, or 0; front of the feed's channel ('': nothing is published)
-- Returns: 0
-- include: aged_ids
-- include: flat_rewrite
local call, key, keep, horizon = redis.call, KEYS[1], tonumber(ARGV[1]) * 16, tonumber(ARGV[2])
local size = call('STRLEN', key)
if horizon > 0 then
  local held = math.floor(size / 16)
  keep = math.min(keep, (held - aged_ids(key, held, horizon)) * 16)
end
if keep == 0 then call('DEL', key)
elseif size > keep then rewrite(key, call('GETRANGE', key, -keep, -1)) end
if size > keep and ARGV[3] ~= '' then call('PUBLISH', ARGV[3] .. ':' .. key, '{}') end
return 0
