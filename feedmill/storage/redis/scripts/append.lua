-- Included by begin.lua: add members to the groups of one feed where bytes can simply be appended, so that nobody has
-- to read, merge and write. Being one script it needs no lock; a feed that somebody holds never gets here.
-- Records are laid out as feedmill/serializers/base.py says, the state of a feed as feedmill/feeds/state.py says.
-- An addition: {want, group, actor, score (text), score, shared, row, loose row, needle, record}
local base = counted and 8 or 2

local function decode(state)
  if not counted then return {touch = ''} end
  if state == '' then state = string.rep('\0', 56) end
  local sequence, seen, read = num('>I8I8I8', state)
  local unseen, unread, published = num('>I4I4I8', state, 41)
  return {bytes = state, sequence = sequence + 1, touch = pack('>I6', sequence + 1), seen = seen, read = read,
    unseen = unseen, unread = unread, published = published, unseen0 = unseen, unread0 = unread}
end

-- The oldest group makes room for a new one; false when that is not so simple.
local function evict(z, h, s, add, card)
  local name, score = unpack(call('ZRANGE', z, 0, 0, 'WITHSCORES'))
  local record = call('HGET', h, name)
  if card > max or tonumber(score) >= add[5] or wanted[name] or not record then return false end
  local flags = string.byte(record)
  if counted then
    local touch = num('>I6', record, 3)
    if touch > s.seen and flags % 4 < 2 then s.unseen = s.unseen - 1 end
    if touch > s.read and flags % 8 < 4 then s.unread = s.unread - 1 end
  end
  if flags % 2 == 1 then call('UNLINK', h .. ':' .. name) end
  call('HDEL', h, name)
  call('ZREM', z, name)
  return true
end

-- The record of a group with its first member, or nil.
local function first(z, h, s, add)
  local card = call('ZCARD', z)
  if card >= max and not evict(z, h, s, add, card) then return nil end
  if not counted then return add[10] end
  s.unseen, s.unread = s.unseen + 1, s.unread + 1
  return string.sub(add[10], 1, 2) .. s.touch .. string.sub(add[10], 9)
end

-- The record with one more member, or nil when only a merge can tell what becomes of it.
local function longer(h, s, add, record)
  local flags, rows = string.byte(record, 1, 2)
  if flags % 8 > 1 or rows >= held then return nil end
  local spilled = flags % 2 == 1
  local at, row, needle = spilled and base + 22 or base, add[7], add[7]
  if flags >= 8 then row, needle = add[8], add[9]
  elseif string.sub(record, at + 1, at + #add[6]) == add[6] then at = at + #add[6]
  else return nil end
  if string.find(record, needle, at + 1, true) then return nil end
  local rest = base
  local head = string.char(flags, rows + 1) .. s.touch
  if spilled then
    local count, actors = num('>I4I4', record, base + 1)
    if add[5] <= num('>I7', record, base + 16) then return nil end
    head = head .. pack('>I4I4', count + 1, actors + call('HSETNX', h .. ':' .. add[2], add[3], ''))
    rest = base + 8
  end
  if counted then
    local touch = num('>I6', record, 3)
    if touch <= s.seen then s.unseen = s.unseen + 1 end
    if touch <= s.read then s.unread = s.unread + 1 end
  end
  return head .. string.sub(record, rest + 1) .. row
end

-- Do as many additions as possible, in order: how many, and the new state. Records in got are brought up to date.
local function append(z, h, c, state, got, title)
  local s, done, sets = decode(state), 0, {}
  for j = 1, #adds do
    local add = adds[j]
    local record = got[add[1] + 2]
    if record then record = longer(h, s, add, record) else record = first(z, h, s, add) end
    if not record then break end
    call('ZADD', z, 'GT', add[4], add[2])
    got[add[1] + 2] = record
    sets[#sets + 1], sets[#sets + 2] = add[2], record
    done = j
  end
  if counted and done > 0 then
    state = pack('>I8', s.sequence) .. string.sub(s.bytes, 9)
    if s.unseen ~= s.unseen0 or s.unread ~= s.unread0 then
      local seq = s.published + 1
      state = string.sub(state, 1, 40) .. pack('>I4I4I8', s.unseen, s.unread, seq)
      call('HSET', c, 'unseen', s.unseen, 'unread', s.unread, 'seq', seq)
      call('PUBLISH', channel, title .. '"unseen": ' .. s.unseen .. ', "unread": ' .. s.unread .. ', "seq": ' .. seq .. '}')
    end
  end
  return done, state, sets
end
