-- Begin a feed that goes when it is idle, because it is rebuilt: it is there from now on.
-- KEYS: timeline
-- ARGV: seconds for which it stays if nobody uses it
-- Returns: 1, or 0 if it was there already
-- include: present
local there = redis.call('EXISTS', KEYS[1] .. ':present')
redis.call('SET', KEYS[1] .. ':present', 'r', 'EX', ARGV[1])
if there == 0 then clear(KEYS[1]) end
return 1 - there
