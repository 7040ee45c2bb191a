-- Begin a cycle for many feeds that are to get the same: add what can be added at once; of the other feeds take the
-- lock and read what a merge needs.
-- KEYS: per feed: groups by score (ZSET), state and records (HASH) and, with counts, the count (STRING)
-- ARGV: token (8 bytes), now, deadline (13 digits, ms), max_length, newest (negative: only where oldest are read),
--       front of the feeds' channels ('': nothing is published), rows a record holds, rows that stay when members overflow,
--       members that a group may overflow, pending writes, number of wants, number of additions, score below which groups are
--       too old and go (0: none is), seconds after which an idle feed goes (0: it does not), '1' if one that is not there
--       begins, '1' with counts, '2' if what comes in is to be told as well,
--       per want: group, number of actors (-1: all), actors;
--       per addition: number of its want, actor, score (µs), shared, row, loose row, match bytes, record;
--       if it is to be told per addition: what the list holds of it behind the revision;
--       with counts per feed: the front of the message to publish
-- Returns: per feed 0 (busy), 1 (busy; pending writes left), 2 (all additions done), 3 (not there: nothing is done), or
--          {additions done, state, pending writes, oldest, newest, record, overflow, record, overflow, …}; oldest (if groups are
--          missing and may not fit, or some are too old) and newest: group, score, … then their records; oldest: then how many
--          there are
-- Fields of the hash: NUL 'm' is '0' .. state or '1' .. token .. deadline .. state, absent for unlocked without state;
-- NUL 'i' holds the pending writes.
local call, num, pack, M, I = redis.call, struct.unpack, struct.pack, '\0m', '\0i'
local byte, char, sub, find = string.byte, string.char, string.sub, string.find
local token, now, deadline = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local max, newest, channel, held, pending = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7]), ARGV[10]
local counted, tells, prefix = ARGV[16] ~= '0', ARGV[16] == '2', '1' .. token .. deadline
local fields, overflows, wanted, adds, horizon, a = {M, I}, {}, {}, {}, tonumber(ARGV[13]), 17
local idle, begins = tonumber(ARGV[14]), ARGV[15] == '1'
for w = 1, tonumber(ARGV[11]) do
  fields[w + 2], overflows[w] = ARGV[a], {a + 2, tonumber(ARGV[a + 1])}
  wanted[ARGV[a]] = w
  a = a + 2 + math.max(overflows[w][2], 0)
end
for j = 1, tonumber(ARGV[12]) do
  local w = tonumber(ARGV[a])
  adds[j] = {w, fields[w + 2], ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 2]), unpack(ARGV, a + 3, a + 7)}
  a = a + 8
end
for j = #adds, 1, -1 do -- where the additions to each group end
  local after = adds[j + 1]
  adds[j].last = after and after[1] == adds[j][1] and after.last or j
end
if tells then
  for j = 1, #adds do adds[j].arrival, a = ARGV[a], a + 1 end
end
local function hmget(how, key, names, from, to) -- unpack has a limit
  local values = {}
  for i = from, to, 1000 do
    local part = how('HMGET', key, unpack(names, i, math.min(i + 999, to)))
    for j = 1, #part do values[#values + 1] = part[j] end
  end
  return values
end
-- include: arrivals
-- include: append
-- include: present

local function read_overflow(h, w)
  local s, at, n = h .. ':' .. fields[w + 2], unpack(overflows[w])
  if n == 0 then return 0 elseif n < 0 then return beside('HGETALL', s) end
  return hmget(beside, s, ARGV, at, at + n - 1)
end

local function ranked(z, h, how, last) -- group, score, … then their records
  local found = call(how, z, 0, last, 'WITHSCORES')
  for i = 1, #found, 2 do found[#found + 1] = call('HGET', h, found[i]) or '' end
  return found
end

local function snapshot(z, h, done, state, got)
  local reply, missing = {done, state, got[2] or '', 0, 0}, 0
  for w = 1, #overflows do
    local record = got[w + 2]
    if not record then missing = missing + 1 end
    reply[2 * w + 4] = record
    reply[2 * w + 5] = record and (byte(record) or 0) % 2 == 1 and read_overflow(h, w) or 0
  end
  local excess = missing > 0 and call('ZCARD', z) + missing - max or 0
  -- those that may have to go, were all that exist and are wanted to become newer
  local oldest = excess > 0 and excess + #overflows - missing or 0
  if horizon > 0 then oldest = math.max(oldest, call('ZCOUNT', z, '-inf', '(' .. ARGV[13])) end
  if oldest > 0 then
    reply[4] = ranked(z, h, 'ZRANGE', oldest - 1)
    reply[4][#reply[4] + 1] = call('ZCARD', z)
  end
  local last = math.max(newest, excess > 0 and -newest or 0) - 1
  if last >= 0 then reply[5] = ranked(z, h, 'ZREVRANGE', last) end
  return reply
end

local unrevised = string.rep('\0', 8)
local out, stride, few = {}, counted and 3 or 2, #fields + #adds < 1000
for k = 1, #KEYS, stride do
  local z, h, f = KEYS[k], KEYS[k + 1], (k - 1) / stride
  local there = idle == 0 or present(z, idle, begins)
  local got = few and call('HMGET', h, unpack(fields)) or hmget(call, h, fields, 1, #fields)
  local m = got[1] or '0'
  local locked = byte(m) == 49
  if not there then out[f + 1] = 3
  elseif locked and sub(m, 2, 9) ~= token and (tonumber(sub(m, 10, 22)) or 0) > now then
    if pending ~= '' then call('HSET', h, I, (got[2] or '') .. pending) end
    out[f + 1] = pending == '' and 0 or 1
  else
    local state, done, sets = sub(m, locked and 23 or 2), 0, {}
    if state ~= '' and sub(state, 1, 8) == unrevised then -- of a deleted feed: no longer only for a while
      call('PERSIST', h)
      call('PERSIST', KEYS[k + 2])
    end
    if #adds > 0 and not locked and not got[2] then
      done, state = append(z, h, KEYS[k + 2], state, got, ARGV[a + f], sets)
    end
    local all = #adds > 0 and done == #adds
    if counted or not all then sets[#sets + 1], sets[#sets + 2] = M, (all and '0' or prefix) .. state end
    if few then call('HSET', h, unpack(sets))
    else for i = 1, #sets, 1000 do call('HSET', h, unpack(sets, i, math.min(i + 999, #sets))) end end
    out[f + 1] = all and 2 or snapshot(z, h, done, state, got)
  end
end
return out
