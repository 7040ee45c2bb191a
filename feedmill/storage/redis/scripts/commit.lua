-- Commit a cycle: for each feed whose lock is still the writer's, write, publish the count, let the lock go.
-- KEYS: per feed: groups by score (ZSET), state and records (HASH) and, with counts, the count (HASH)
-- ARGV: token, deadline (13 digits, ms), channel, keys per feed (2 or 3),
--       per feed: 1 or 2, state, group, record, score, and with 2 unseen, unread, sequence, message: one put; or
--                 0, state, inbox bytes done, unseen ('' for no change), unread, sequence, message,
--                 puts, (group, record) each, (score, group) each; deletes, group each;
--                 unspills, group each; spills, (group, actor, bytes) each; respills, (group, actor, bytes) each
-- Returns: per feed -1 (lock lost, nothing written), 0 (done), or the inbox that came in meanwhile (lock kept)
local call, M, I = redis.call, '\0m', '\0i'
local mine, deadline, channel, stride = '1' .. ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local out, a = {}, 5
local function commit(k)
  local z, h = KEYS[k], KEYS[k + 1]
  local state, inbox_done = ARGV[a], tonumber(ARGV[a + 1])
  local puts = a + 7
  local deletes = puts + 4 * tonumber(ARGV[a + 6]) + 1
  local unspills = deletes + tonumber(ARGV[deletes - 1]) + 1
  local spills = unspills + tonumber(ARGV[unspills - 1]) + 1
  local respills = spills + 3 * tonumber(ARGV[spills - 1]) + 1
  local stop = respills + 3 * tonumber(ARGV[respills - 1])
  local got = call('HMGET', h, M, I)
  if not got[1] or string.sub(got[1], 1, 9) ~= mine then out[#out + 1] = -1
  else
    local inbox = string.sub(got[2] or '', inbox_done + 1)
    local kept = inbox == '' and '0' .. state or mine .. deadline .. state
    local n = tonumber(ARGV[a + 6])
    if n > 0 then
      call('HSET', h, M, kept, unpack(ARGV, puts, puts + 2 * n - 1))
      call('ZADD', z, unpack(ARGV, puts + 2 * n, puts + 4 * n - 1))
    else call('HSET', h, M, kept) end
    if inbox_done > 0 then
      if inbox == '' then call('HDEL', h, I) else call('HSET', h, I, inbox) end
    end
    if unspills > deletes + 1 then
      call('HDEL', h, unpack(ARGV, deletes, unspills - 2))
      call('ZREM', z, unpack(ARGV, deletes, unspills - 2))
    end
    for i = unspills, spills - 2 do call('UNLINK', h .. ':' .. ARGV[i]) end
    for i = spills, respills - 2, 3 do
      local s = h .. ':' .. ARGV[i]
      call('HSET', s, ARGV[i + 1], (call('HGET', s, ARGV[i + 1]) or '') .. ARGV[i + 2])
    end
    for i = respills, stop - 1, 3 do
      local s = h .. ':' .. ARGV[i]
      if ARGV[i + 2] == '' then call('HDEL', s, ARGV[i + 1]) else call('HSET', s, ARGV[i + 1], ARGV[i + 2]) end
    end
    if ARGV[a + 2] ~= '' then
      call('HSET', KEYS[k + 2], 'unseen', ARGV[a + 2], 'unread', ARGV[a + 3], 'seq', ARGV[a + 4])
      call('PUBLISH', channel, ARGV[a + 5])
    end
    out[#out + 1] = inbox == '' and 0 or inbox
  end
  a = stop
end
for k = 1, #KEYS, stride do
  local shape = ARGV[a]
  a = a + 1
  if shape == '0' then commit(k)
  else
    local h = KEYS[k + 1]
    local got = call('HMGET', h, M, I)
    if not got[1] or string.sub(got[1], 1, 9) ~= mine then out[#out + 1] = -1
    else
      call('HSET', h, M, (got[2] and mine .. deadline or '0') .. ARGV[a], ARGV[a + 1], ARGV[a + 2])
      call('ZADD', KEYS[k], ARGV[a + 3], ARGV[a + 1])
      if shape == '2' then
        call('HSET', KEYS[k + 2], 'unseen', ARGV[a + 4], 'unread', ARGV[a + 5], 'seq', ARGV[a + 6])
        call('PUBLISH', channel, ARGV[a + 7])
      end
      out[#out + 1] = got[2] or 0
    end
    a = a + (shape == '2' and 8 or 4)
  end
end
return out
