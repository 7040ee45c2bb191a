-- An activity is removed: its direct notifications so far are void.
-- KEYS: people by notice, and numbers (HASH: '#' -> the last number, '-' -> that of the last removal), notices (ZSET)
-- ARGV: seconds to keep them: somebody must still take the activity out of the feeds of these people
-- include: next_number
local call = redis.call
if call('EXISTS', KEYS[1]) == 0 then return end
local number = string.format('%.0f', next_number(call('HGET', KEYS[1], '#')))
call('HSET', KEYS[1], '#', number, '-', number)
call('EXPIRE', KEYS[1], ARGV[1])
call('EXPIRE', KEYS[2], ARGV[1])
