-- Put another list of users in place of that of a direct notification, unless it is another one meanwhile.
-- KEYS: people by notice, and numbers (HASH: name -> packed ids)
-- ARGV: name, the list as it was, the list that is to be
-- Returns: 1, or 0 if it was another
local call, name, before, after = redis.call, unpack(ARGV)
if call('HGET', KEYS[1], name) ~= before then return 0 end
call('HSET', KEYS[1], name, after)
return 1
