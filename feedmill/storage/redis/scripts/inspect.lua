-- Read all of one feed of groups at one moment, whatever its keys hold.
-- KEYS: groups by score (ZSET), state and records (HASH) and, with counts, the count (STRING)
-- ARGV: groups whose overflow is looked at even if no record says that there is one
-- Returns: {type of each key}, {group, score, …}, {field, value, …}, count (false without), {group, actors, …}
local call, types, overflows = redis.call, {}, {}
for k = 1, #KEYS do types[k] = call('TYPE', KEYS[k]).ok end
local scores = types[1] == 'zset' and call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES') or {}
local fields = types[2] == 'hash' and call('HGETALL', KEYS[2]) or {}
local count = types[3] == 'string' and call('GET', KEYS[3])
local function look(group)
  local overflow = KEYS[2] .. ':' .. group
  overflows[#overflows + 1] = group
  overflows[#overflows + 1] = call('TYPE', overflow).ok == 'hash' and call('HLEN', overflow) or 0
end
for i = 1, #fields, 2 do
  if string.byte(fields[i]) ~= 0 and (string.byte(fields[i + 1]) or 0) % 2 == 1 then look(fields[i]) end
end
for i = 1, #ARGV do look(ARGV[i]) end
return {types, scores, fields, count, overflows}
