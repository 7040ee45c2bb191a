-- Look whether locks are still the writer's before it commits elsewhere, and put what hooks are to be told into the feeds' lists:
-- should the commit be refused after that, they are told again with the next.
-- KEYS: per feed: lock and pending writes (HASH), timeline (its name is that of the list)
-- ARGV: token, token of a lock that is kept; per feed: number of arrivals, each of them
-- Returns: per feed -1 (lock lost), 0 (it is held), or what is among the pending writes of one that a commit has kept
local call, sub, M, I, out, a = redis.call, string.sub, '\0m', '\0i', {}, 3
-- include: arrivals
for k = 1, #KEYS, 2 do
  local got, count = call('HMGET', KEYS[k], M, I), tonumber(ARGV[a])
  local lock, came = sub(got[1] or '', 1, 9), {}
  for i = a + 1, a + count do came[#came + 1] = ARGV[i] end
  a = a + count + 1
  if lock == '1' .. ARGV[2] then
    out[#out + 1] = got[2] or ''
  elseif lock ~= '1' .. ARGV[1] then
    out[#out + 1] = -1
  else
    if count > 0 then note_arrivals(KEYS[k + 1], came) end
    out[#out + 1] = 0
  end
end
return out
