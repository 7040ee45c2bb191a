-- Keep direct notifications of an activity that came by one call.
-- KEYS: people by notice, and numbers (HASH: name -> packed ids; '#' -> the last number), notices (ZSET: name -> twice the
--   number, and one more if its people were notified)
-- ARGV: seconds to keep them, number or 0 for the next, 1 if they are notified or 0 if taken back; then name and people of each
-- Returns: the number
-- include: next_number
local call, people, words = redis.call, KEYS[1], KEYS[2]
local number, last = tonumber(ARGV[2]), call('HGET', people, '#')
if number == 0 then number = next_number(last) end
if number > tonumber(last or 0) then call('HSET', people, '#', string.format('%.0f', number)) end
for i = 4, #ARGV, 2 do
  local was = call('ZSCORE', words, ARGV[i])
  if not was or tonumber(was) < 2 * number + 2 then
    call('HSET', people, ARGV[i], ARGV[i + 1])
    call('ZADD', words, 2 * number + ARGV[3], ARGV[i])
  end
end
call('EXPIRE', people, ARGV[1])
call('EXPIRE', words, ARGV[1])
return number
