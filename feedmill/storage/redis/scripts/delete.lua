-- Delete a feed of either shape with all that belongs to it. A writer in the middle of a cycle loses its lock.
-- Of a feed with counts the number of the last count stays for a while, in its state and its count, and in its state that of
-- its latest touch: whoever writes to it meanwhile goes on from there, and what stayed stays for good (begin).
-- KEYS: timeline (STRING or ZSET), state and records (HASH) and, with counts, the count (STRING)
-- ARGV: front of the feed's channel ('': nothing is published); with counts: front of the message to publish, seconds that the
--   number stays, or 0
-- Returns: 0
local call, channel, event_prefix, seconds = redis.call, unpack(ARGV)
local groups = call('HKEYS', KEYS[2])
for i = 1, #groups do call('UNLINK', KEYS[2] .. ':' .. groups[i]) end
local count = KEYS[3] and redis.pcall('GET', KEYS[3])
local unseen, unread, sequence = string.match(type(count) == 'string' and count or '', '^(%d+) (%d+) (%d+)$')
local held = sequence and call('HGET', KEYS[2], '\0m') or ''
local gone = call('UNLINK', unpack(KEYS))
if KEYS[3] then call('UNLINK', KEYS[1] .. ':arrivals') end -- nobody is to be told of it any more
if not KEYS[3] and gone > 0 and channel ~= '' then call('PUBLISH', channel .. ':' .. KEYS[1], '{}') end
if not sequence then return 0 end
local state, none = string.sub(held, string.byte(held) == 49 and 23 or 2), string.rep('\0', 8)
local latest = string.sub(state, 1, 8)
if #state ~= 56 then latest = none elseif latest == none then latest = string.sub(state, 25, 32) end -- deleted before
if unseen ~= '0' or unread ~= '0' then
  sequence = string.format('%.0f', sequence + 1)
  if channel ~= '' then call('PUBLISH', channel .. ':' .. KEYS[1], event_prefix .. '"unseen": 0, "unread": 0, "seq": ' .. sequence .. '}') end
end
if seconds == '0' then return 0 end
call('SET', KEYS[3], '0 0 ' .. sequence, 'EX', seconds)
call('HSET', KEYS[2], '\0m', '0' .. string.rep(none, 3) .. latest .. string.rep(none, 2) .. struct.pack('>I8', sequence))
call('EXPIRE', KEYS[2], seconds)
return 0
