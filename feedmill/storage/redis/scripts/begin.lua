-- Begin a cycle: take the locks of many feeds and read what the writer is going to touch.
-- KEYS: per feed: groups by score (ZSET), state and records (HASH)
-- ARGV: token (8 bytes), now, deadline (13 digits, ms), max_length, newest, '1' if all feeds want the same,
--       per feed (or once): inbox bytes, number of wants, per want: group, number of actors (-1: all), actors
-- Returns: per feed 0 (busy), 1 (busy; inbox bytes left), one string (all wants are one plain record: length of
--          the state in one byte, state, record), or
--          {state, inbox, oldest, newest, record, spill, record, spill, …}; oldest (if groups are missing and may
--          not fit): group, score, … then their records, then how many groups there are
-- Fields of the hash: NUL 'm' is '0' .. state or '1' .. token .. deadline .. state; NUL 'i' is the inbox.
local call, M, I = redis.call, '\0m', '\0i'
local token, now, deadline = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local max, newest = tonumber(ARGV[4]), tonumber(ARGV[5])
local same, prefix = ARGV[6] == '1', '1' .. token .. deadline
local out, a = {}, 7
local one = same and newest == 0 and ARGV[8] == '1' and ARGV[9]
local function begin(k)
  if same then a = 7 end
  local z, h, left, wants = KEYS[k], KEYS[k + 1], ARGV[a], tonumber(ARGV[a + 1])
  local fields, spills = {M, I}, {}
  a = a + 2
  for w = 1, wants do
    fields[w + 2] = ARGV[a]
    local n = tonumber(ARGV[a + 1])
    spills[w] = {a + 2, n}
    a = a + 2 + math.max(n, 0)
  end
  local got = call('HMGET', h, unpack(fields))
  local m = got[1] or '0'
  if string.byte(m) == 49 and string.sub(m, 2, 9) ~= token and tonumber(string.sub(m, 10, 22)) > now then
    if left == '' then out[#out + 1] = 0
    else
      call('HSET', h, I, (got[2] or '') .. left)
      out[#out + 1] = 1
    end
  else
    local state = string.sub(m, string.byte(m) == 49 and 23 or 2)
    call('HSET', h, M, prefix .. state)
    local old, new, missing = 0, 0, 0
    local reply = {state, got[2] or '', 0, 0}
    for w = 1, wants do
      local record, spill = got[w + 2], 0
      if not record then missing = missing + 1
      elseif string.byte(record) % 2 == 1 and spills[w][2] ~= 0 then
        local s = h .. ':' .. fields[w + 2]
        if spills[w][2] < 0 then spill = call('HGETALL', s)
        else spill = call('HMGET', s, unpack(ARGV, spills[w][1], spills[w][1] + spills[w][2] - 1)) end
      end
      reply[#reply + 1] = record
      reply[#reply + 1] = spill
    end
    if missing > 0 then
      local card = call('ZCARD', z)
      local excess = card + missing - max
      if excess > 0 then -- those that may have to go, were all that exist and are wanted to become newer
        old = call('ZRANGE', z, 0, excess + wants - missing - 1, 'WITHSCORES')
        for i = 1, #old, 2 do old[#old + 1] = call('HGET', h, old[i]) or '' end
        old[#old + 1] = card
        reply[3] = old
      end
    end
    if newest > 0 then
      new = call('ZREVRANGE', z, 0, newest - 1)
      for i = 1, #new do new[#new + 1] = call('HGET', h, new[i]) or '' end
      reply[4] = new
    end
    out[#out + 1] = reply
  end
end
for k = 1, #KEYS, 2 do
  local got = one and call('HMGET', KEYS[k + 1], M, I, one)
  local m, record = got and got[1], got and got[3]
  if m and record and not got[2] and string.byte(m) == 48 and string.byte(record) % 2 == 0 then
    call('HSET', KEYS[k + 1], M, prefix .. string.sub(m, 2))
    out[#out + 1] = string.char(#m - 1) .. string.sub(m, 2) .. record
  else begin(k) end
end
return out
