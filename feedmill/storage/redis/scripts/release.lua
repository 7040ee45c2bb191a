-- Let go of the locks of a writer that gives up: it commits nothing more.
-- KEYS: per feed: state and records (HASH)
-- ARGV: the tokens (8 bytes each) under which the writer may hold them
-- Returns: per feed 1 if it was let go while something is in its inbox, else 0
local call, sub, M, I, out = redis.call, string.sub, '\0m', '\0i', {}
for k = 1, #KEYS do
  local got = redis.pcall('HMGET', KEYS[k], M, I)
  local m, ours = not got.err and got[1] or '', false
  for a = 1, #ARGV do ours = ours or sub(m, 1, 9) == '1' .. ARGV[a] end
  if ours and #m > 22 then call('HSET', KEYS[k], M, '0' .. sub(m, 23)) elseif ours then call('HDEL', KEYS[k], M) end
  out[k] = ours and got[2] and 1 or 0
end
return out
