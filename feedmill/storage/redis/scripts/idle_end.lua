-- Delete what is stored of a feed that is not there any more, because it was idle.
-- KEYS: timeline
-- ARGV: nothing
-- Returns: the seconds for which it is there if nobody uses it, or -2 if it is not
-- include: present
local remaining = redis.call('TTL', KEYS[1] .. ':present')
if remaining == -2 then clear(KEYS[1]) end
return remaining
