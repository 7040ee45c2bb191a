-- Take ids out of many flat timelines.
-- KEYS: timelines, as in flat_add.lua
-- ARGV: front of the feeds' channels ('': nothing is published); then the ids
-- Returns: how many were there, over all timelines
-- include: flat_rewrite
local call, channel = redis.call, ARGV[1]
local removed = 0
for k = 1, #KEYS do
  local text = call('GET', KEYS[k])
  if text then
    local found = 0
    for i = 2, #ARGV do
      local at = string.find(text, ARGV[i], 1, true)
      while at and at % 16 ~= 1 do at = string.find(text, ARGV[i], at + 1, true) end
      if at then
        text = string.sub(text, 1, at - 1) .. string.sub(text, at + 16)
        found = found + 1
      end
    end
    if #text == 0 then call('DEL', KEYS[k]) elseif found > 0 then rewrite(KEYS[k], text) end
    if found > 0 and channel ~= '' then call('PUBLISH', channel .. ':' .. KEYS[k], '{"removed": ' .. found .. '}') end
    removed = removed + found
  end
end
return removed
