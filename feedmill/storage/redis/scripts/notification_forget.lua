-- Put another list of users in place of that of a direct notification, unless it is another one meanwhile.
-- KEYS: people by notice, and numbers (HASH: name -> packed ids; '#' -> the last number), notices (ZSET: name -> twice the
--   number, and one more if its people were notified)
-- ARGV: name, the list as it was, the list that is to be, empty if nobody is left
-- Returns: 1, or 0 if it was another
-- The new list has a name of its own, with a star and its number: whoever has the old one at hand must not take it for this. Those who
-- deliver see by the last number that they have to look again.
-- include: next_number
local call, people, words, name, before, after = redis.call, KEYS[1], KEYS[2], unpack(ARGV)
if call('HGET', people, name) ~= before then return 0 end
local score = call('ZSCORE', words, name)
call('HSET', people, '#', string.format('%.0f', next_number(call('HGET', people, '#'))))
if after ~= '' and string.find(name, '%*%d+$') then
  call('HSET', people, name, after)
  return 1
end
if after ~= '' then
  local left = name .. '*' .. string.format('%.0f', math.floor((score or 0) / 2))
  call('HSET', people, left, after)
  if score then call('ZADD', words, score, left) end
end
call('HDEL', people, name)
call('ZREM', words, name)
return 1
