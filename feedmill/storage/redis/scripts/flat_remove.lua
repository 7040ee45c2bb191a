-- Take ids out of many flat timelines.
-- KEYS: timelines, as in flat_add.lua
-- ARGV: ids
-- Returns: how many were there, over all timelines
local call = redis.call
local removed = 0
for k = 1, #KEYS do
  local text = call('GET', KEYS[k])
  if text then
    local found = 0
    for i = 1, #ARGV do
      local at = string.find(text, ARGV[i], 1, true)
      while at and at % 16 ~= 1 do at = string.find(text, ARGV[i], at + 1, true) end
      if at then
        text = string.sub(text, 1, at - 1) .. string.sub(text, at + 16)
        found = found + 1
      end
    end
    if #text == 0 then call('DEL', KEYS[k]) elseif found > 0 then call('SET', KEYS[k], text) end
    removed = removed + found
  end
end
return removed
