-- Let go of the locks of a writer that gives up: it commits nothing more.
-- KEYS: per feed: state and records (HASH)
-- ARGV: the tokens (8 bytes each) under which the writer may hold them
-- Returns: per feed 1 if it was let go while something is among its pending writes, else 0
local call, sub, M, I, out, states = redis.call, string.sub, '\0m', '\0i', {}, {}
for k = 1, #KEYS do
  local got = redis.pcall('HMGET', KEYS[k], M, I)
  local m, ours = not got.err and got[1] or '', false
  for a = 1, #ARGV do ours = ours or sub(m, 1, 9) == '1' .. ARGV[a] end
  if ours then states[k] = sub(m, 23) end
  out[k] = ours and got[2] and 1 or 0
end
-- What a full server refuses comes first: then nothing was written.
for k, state in pairs(states) do if state ~= '' then call('HSET', KEYS[k], M, '0' .. state) end end
for k, state in pairs(states) do if state == '' then call('HDEL', KEYS[k], M) end end
return out
