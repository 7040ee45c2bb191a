-- After a commit elsewhere, let locks go, or keep those of feeds that others left something among the pending writes of meanwhile.
-- KEYS: per feed: lock and pending writes (HASH)
-- ARGV: token, token of a lock that is kept, deadline (13 digits, ms); per feed: bytes done at the front of the pending writes, and the
--       bytes of them that stay
-- Returns: per feed -1 (another has the lock by now, and what was done stays among the pending writes: it is done again), 0 (done), or
--          what came in meanwhile (lock kept)
local call, sub, M, I, out, sets, dels = redis.call, string.sub, '\0m', '\0i', {}, {}, {}
for k = 1, #KEYS do
  local got = call('HMGET', KEYS[k], M, I)
  local done, stays = tonumber(ARGV[2 * k + 2]), ARGV[2 * k + 3]
  if sub(got[1] or '', 1, 9) == '1' .. ARGV[2] then
    out[k] = got[2] or ''
  elseif sub(got[1] or '', 1, 9) ~= '1' .. ARGV[1] then
    out[k] = -1
  else
    local came = sub(got[2] or '', done + 1)
    if came ~= '' then
      sets[#sets + 1] = {KEYS[k], M, '1' .. ARGV[2] .. ARGV[3], I, stays .. came}
      out[k] = came
    elseif stays ~= '' then
      sets[#sets + 1] = {KEYS[k], M, '0', I, stays}
      out[k] = 0
    else
      dels[#dels + 1] = KEYS[k]
      out[k] = 0
    end
  end
end
-- What a full server refuses comes first: then nothing was written.
for i = 1, #sets do call('HSET', unpack(sets[i])) end
for i = 1, #dels do call('HDEL', dels[i], M, I) end
return out
