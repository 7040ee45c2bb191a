-- Write down who unfollows whom, who follows again, or whose feeds are being rebuilt; and forget what is long past.
-- KEYS: who has unfollowed whom (ZSET: pair -> number), who follows again (ZSET: pair -> number), whose feeds are rebuilt
--   (ZSET: user -> hour), numbers (HASH: '#' -> the last; an hour -> what was the last when it began)
-- ARGV: 'unfollow', 'follow' or 'rebuild', hours to remember pairs, hours to remember rebuilds, user; then pairs of that user:
--   with 'rebuild' one that stands for another answer of the filters, or none
-- Returns: the last number
-- What came first is decided by the numbers; else the clock only decides what is forgotten.
-- include: next_number
local UNFOLLOWED, FOLLOWED, REBUILT, NUMBERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, change, user = redis.call, ARGV[1], ARGV[4]
local number = tonumber(call('HGET', NUMBERS, '#') or 0)
local hour = math.floor(call('TIME')[1] / 3600)
if change == 'rebuild' then call('ZADD', REBUILT, hour, user) end
if change ~= 'rebuild' or #ARGV > 4 then
  number = next_number(number)
  call('HSET', NUMBERS, '#', string.format('%.0f', number))
end
local watched = change == 'follow' and call('ZSCORE', REBUILT, user)
for i = 5, #ARGV do
  if change ~= 'follow' then
    call('ZADD', UNFOLLOWED, number, ARGV[i])
    call('ZREM', FOLLOWED, ARGV[i])
  elseif call('ZREM', UNFOLLOWED, ARGV[i]) == 1 or watched then call('ZADD', FOLLOWED, number, ARGV[i]) end
end
call('EXPIRE', UNFOLLOWED, (ARGV[2] + 1) * 3600)
call('EXPIRE', FOLLOWED, (ARGV[2] + 1) * 3600)
if call('HSETNX', NUMBERS, hour, number) == 1 then
  local marks, past = call('HGETALL', NUMBERS), 0
  for i = 1, #marks, 2 do
    if marks[i] ~= '#' and tonumber(marks[i]) < hour - ARGV[2] then
      past = math.max(past, tonumber(marks[i + 1]))
      call('HDEL', NUMBERS, marks[i])
    end
  end
  call('ZREMRANGEBYSCORE', UNFOLLOWED, '-inf', past)
  call('ZREMRANGEBYSCORE', FOLLOWED, '-inf', past)
  call('ZREMRANGEBYSCORE', REBUILT, '-inf', hour - ARGV[3] - 1)
end
return number
