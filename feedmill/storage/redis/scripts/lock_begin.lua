-- Take the locks of feeds of groups whose groups are stored elsewhere; a feed that another holds gets the pending writes.
-- KEYS: per feed: lock and pending writes (HASH, the fields NUL 'm' and NUL 'i' of `begin`)
-- ARGV: token (8 bytes), now, deadline (13 digits, ms), pending writes
-- Returns: per feed 0 (busy), 1 (busy; pending writes left), or what is among its pending writes (lock taken)
local call, sub, M, I, out = redis.call, string.sub, '\0m', '\0i', {}
local token, now, deadline, pending = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
for k = 1, #KEYS do
  local got = call('HMGET', KEYS[k], M, I)
  local lock = got[1] or ''
  if sub(lock, 1, 1) == '1' and sub(lock, 2, 9) ~= token and (tonumber(sub(lock, 10, 22)) or 0) > now then
    if pending ~= '' then
      call('HSET', KEYS[k], I, (got[2] or '') .. pending)
      out[k] = 1
    else
      out[k] = 0
    end
  else
    call('HSET', KEYS[k], M, '1' .. token .. deadline)
    out[k] = got[2] or ''
  end
end
return out
