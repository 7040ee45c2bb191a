-- Commit a cycle: for each feed whose lock is still the writer's, write, publish the count, let the lock go.
-- KEYS: per feed: groups by score (ZSET), state and records (HASH) and, with counts, the count (STRING)
-- ARGV: token, token of a lock that is kept, deadline (13 digits, ms), front of the feeds' channels ('': nothing is published),
--       1 with counts, 2 if what came in is to be told as well, else 0; then per feed:
--       pending writes done (with ':' and the bytes of them that stay, if any do), unseen ('' for no change of counts), unread,
--       sequence, message ('' for none),
--       puts, NUL 'm', state, (group, record) each, (score, group) each; deletes, group each; unspills, group each;
--       overflow, (group, actor, '+' append or '=' set or '-' delete, bytes) each;
--       if it is to be told: arrivals, each of them
-- Returns: per feed -1 (lock lost, nothing written), 0 (done; what stays is among the pending writes), or what came in as pending writes
--          meanwhile (lock kept)
-- A commit may come twice, when its answer was lost: if it kept the lock, that is another by then, and it writes nothing.
local call, sub, M, I = redis.call, string.sub, '\0m', '\0i'
local mine, kept, deadline, channel = '1' .. ARGV[1], '1' .. ARGV[2], ARGV[3], ARGV[4]
local counted, tells, a, out = ARGV[5] ~= '0', ARGV[5] == '2', 6, {}
-- include: arrivals
local function many(command, key, from, to) -- unpack has a limit
  for i = from, to, 1000 do call(command, key, unpack(ARGV, i, math.min(i + 999, to))) end
end
local function commit(z, h, c)
  local pending_done, stays, unseen, n, puts = tonumber(ARGV[a]), '', a + 1, tonumber(ARGV[a + 5]), a + 8
  if not pending_done then
    local colon = string.find(ARGV[a], ':', 1, true)
    pending_done, stays = tonumber(sub(ARGV[a], 1, colon - 1)), sub(ARGV[a], colon + 1)
  end
  local deletes = puts + 4 * n + 1
  local unspills = deletes + tonumber(ARGV[deletes - 1]) + 1
  local overflows = unspills + tonumber(ARGV[unspills - 1]) + 1
  local last = overflows + 4 * tonumber(ARGV[overflows - 1]) - 1
  a = last + 1 + (tells and 1 + tonumber(ARGV[last + 1]) or 0)
  local got = call('HMGET', h, M, I)
  local lock = sub(got[1] or '', 1, 9)
  if lock == kept then return got[2] or '' end
  if lock ~= mine then return -1 end
  local pending = sub(got[2] or '', pending_done + 1)
  if pending ~= '' then
    call('HSET', h, M, kept .. deadline .. ARGV[puts - 1], I, stays .. pending)
    many('HSET', h, puts, puts + 2 * n - 1)
  else
    ARGV[puts - 1] = '0' .. ARGV[puts - 1] -- the pair before the records
    many('HSET', h, counted and puts - 2 or puts, puts + 2 * n - 1)
    if not counted then call('HDEL', h, M) end
    if stays ~= '' then call('HSET', h, I, stays) elseif pending_done > 0 then call('HDEL', h, I) end
  end
  many('ZADD', z, puts + 2 * n, puts + 4 * n - 1)
  many('HDEL', h, deletes, unspills - 2)
  many('ZREM', z, deletes, unspills - 2)
  for i = unspills, overflows - 2 do call('UNLINK', h .. ':' .. ARGV[i]) end
  for i = overflows, last, 4 do
    local s, actor, how, bytes = h .. ':' .. ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if how == '-' then call('HDEL', s, actor)
    else call('HSET', s, actor, (how == '+' and call('HGET', s, actor) or '') .. bytes) end
  end
  if ARGV[unseen] ~= '' then
    call('SET', c, ARGV[unseen] .. ' ' .. ARGV[unseen + 1] .. ' ' .. ARGV[unseen + 2])
  end
  if channel ~= '' and ARGV[unseen + 3] ~= '' then call('PUBLISH', channel .. ':' .. z, ARGV[unseen + 3]) end
  if tells and ARGV[last + 1] ~= '0' then
    local came = {}
    for i = last + 2, a - 1 do came[#came + 1] = ARGV[i] end
    note_arrivals(z, came)
  end
  return pending == '' and 0 or pending
end
for k = 1, #KEYS, counted and 3 or 2 do out[#out + 1] = commit(KEYS[k], KEYS[k + 1], KEYS[k + 2]) end
return out
