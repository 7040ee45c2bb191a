-- Included by begin.lua: add members to the groups of one feed where bytes can simply be appended, so that nobody has
-- to read, merge and write. Being one script it needs no lock; a feed that somebody holds never gets here.
-- Records are laid out as feedmill/records/layout.py says, the state of a feed as feedmill/grouping/feed_state.py says.
-- An addition: {want, group, actor, score (text), score, shared, row, loose row, match bytes, record, number of the last addition to
-- its group, what hooks are told}; those of a group stand together, oldest first
local base = counted and 8 or 2
local no_state, most = string.rep('\0', 56), 2 ^ 31 - 1
-- What is too short to be a record or a state, or counts too far, is damaged: the merge, which checks all, decides.
-- Of the feed at hand: what the state says, the bytes of the new touch, and how far the counts move.
local seen, read, revision, unseen, unread

-- include: overflow
-- A group goes; false when that is not so simple.
local function drop(z, h, name)
  local record = call('HGET', h, name)
  if not record or #record <= base then return false end
  local flags = byte(record)
  if flags > 31 and flags < 64 then return false end -- a newer release wrote it
  if counted then
    local revised = num('>I6', record, 3)
    if revised > seen and flags % 4 < 2 then unseen = unseen - 1 end
    if revised > read and flags % 8 < 4 then unread = unread - 1 end
  end
  if flags % 2 == 1 then call('UNLINK', h .. ':' .. name) end
  call('HDEL', h, name)
  call('ZREM', z, name)
  return true
end

-- The oldest group makes room for a new one; false when that is not so simple.
local function evict(z, h, add, card)
  local name, score = unpack(call('ZRANGE', z, 0, 0, 'WITHSCORES'))
  if card > max or tonumber(score) >= add[5] or wanted[name] then return false end
  return drop(z, h, name)
end

-- What is too old goes; those of it that are wanted begin anew. False when that is not so simple.
local function expire(z, h, got)
  while true do
    local name, score = unpack(call('ZRANGE', z, 0, 0, 'WITHSCORES'))
    if not name or tonumber(score) >= horizon then return true end
    if not drop(z, h, name) then return false end
    if wanted[name] then got[wanted[name] + 2] = false end
  end
end

-- The record of a group with its first member, or nil.
local function first(z, h, add)
  local card = call('ZCARD', z)
  if card >= max and not evict(z, h, add, card) then return nil end
  if not counted then return add[10] end
  unseen, unread = unseen + 1, unread + 1
  return sub(add[10], 1, 2) .. revision .. sub(add[10], 9)
end

-- The record with the members from j up to last at most, and which was the last of them that it got; nil when only a merge can
-- tell what becomes of the first. They are of one group, oldest first.
local function longer(h, j, last, record)
  if #record <= base then return nil end
  local add, flags, rows = adds[j], byte(record, 1, 2)
  local at, row, shared, has_overflow, mixed, head = base, 7, add[6], flags % 2 == 1, flags % 16 > 7, ''
  if flags % 8 > 1 then return nil end -- a merge tells what is seen
  if flags > 31 and flags < 64 then return nil end -- a newer release wrote it
  local s, count, actors, created, top
  if has_overflow then
    at = base + 22
    if #record <= at then return nil end
    s, count, actors, created, top = h .. ':' .. add[2], num('>I4I4I7I7', record, base + 1)
    if math.max(count, actors) + last - j >= most then return nil end
  end
  local late, truncated, match = has_overflow and add[5] <= top, flags % 32 > 15, 7
  if mixed then row, match, shared = 8, 9, '' end
  local upto, from = j, at + #shared + 1
  if not mixed and sub(record, at + 1, at + #shared) ~= shared then
    if not late then return nil end -- perhaps it is held with another context
    from = at + 1
  end
  if find(record, add[match], from, true) then return nil end
  if not truncated then
    while upto < last do
      local after = adds[upto + 1]
      if late and after[5] > top or not mixed and after[6] ~= add[6] or find(record, after[match], from, true) then break end
      upto = upto + 1
    end
  end
  if late then
    if not truncated then head, upto = add_to_overflow(s, j, upto, count, actors, created) else head = nil end
    row, at = '', base + 15
  elseif rows + upto - j >= held then
    local text = sub(record, at + #shared + 1)
    head, row, rows = overflow(s or h .. ':' .. add[2], j, upto, text, mixed, row, rows, truncated, count, actors, created, top)
    if not head and upto > j then return longer(h, j, math.max(j, j + held - byte(record, 2) - 1), record) end -- as many as it holds
    head, at, flags = head and head .. shared, #record, flags + (has_overflow and 0 or 1)
  else
    if has_overflow then
      local new
      if truncated then
        local actor = counted and not mixed and sub(add[7], 6) or add[3] -- as a row says it
        if find(record, actor, at + #shared + 1, true) then return nil end -- perhaps an actor whom only the record names
        new = 1 - beside('HEXISTS', s, add[3])
      else new = name_actors(s, j, upto) end
      head, at = pack('>I4I4', count + upto - j + 1, actors + new), base + 8
    else at = base end
    row, rows = rows_of(row, j, upto), rows + upto - j + 1
  end
  if not head then return nil end
  if counted then
    local revised = num('>I6', record, 3)
    if revised <= seen then unseen = unseen + 1 end
    if revised <= read then unread = unread + 1 end
  end
  return char(flags, rows) .. revision .. head .. sub(record, at + 1) .. row, upto
end

-- Do as many additions as possible, in order: how many, and the new state. Records in got are brought up to date.
local function append(z, h, c, state, got, event_prefix, sets)
  local sequence, done = 0, 0
  revision, unseen, unread = '', 0, 0
  if counted then
    if state == '' then state = no_state elseif #state ~= #no_state then return 0, state end
    local last -- of a deleted feed the number of its latest touch, of others a time in µs
    sequence, seen, read, last = num('>I8I8I8I8', state)
    if sequence >= 2 ^ 47 then return 0, state end
    if sequence == 0 and last < 2 ^ 47 then sequence = last end
    sequence = math.max(sequence + 1, now)
    revision = pack('>I6', sequence)
  end
  local last = (horizon == 0 or expire(z, h, got)) and 0 or #adds
  while last == done and done < #adds do
    local j, add = done + 1, adds[done + 1]
    local w = add[1] + 2
    last = add.last
    local record, upto = got[w], done
    if not record then
      record = first(z, h, add)
      upto = record and j or done
    end
    while record and upto < last do
      local more, added = longer(h, upto + 1, last, record)
      if not more then break end
      record, upto = more, added
    end
    if upto > done then
      call('ZADD', z, 'GT', adds[upto][4], add[2])
      got[w] = record
      sets[#sets + 1], sets[#sets + 2], done = add[2], record, upto
    end
  end
  if not counted then
    if done > 0 and channel ~= '' then call('PUBLISH', channel .. ':' .. z, '{"added": ' .. done .. '}') end
    return done, state
  end
  if done > 0 then state = pack('>I8', sequence) .. sub(state, 9) end
  if tells and done > 0 then
    local came = {}
    for j = 1, done do came[j] = revision .. adds[j].arrival end
    note_arrivals(z, came)
  end
  if unseen == 0 and unread == 0 then return done, state end
  local unseen0, unread0, published = num('>I4I4I8', state, 41)
  unseen, unread, published = unseen0 + unseen, unread0 + unread, published + 1
  state = sub(state, 1, 40) .. pack('>I4I4I8', unseen, unread, published)
  unseen, unread, published = tostring(unseen), tostring(unread), tostring(published) -- once: it is not cheap
  call('SET', c, unseen .. ' ' .. unread .. ' ' .. published)
  if channel ~= '' then call('PUBLISH', channel .. ':' .. z, event_prefix .. '"unseen": ' .. unseen .. ', "unread": ' .. unread .. ', "seq": ' .. published .. '}') end
  return done, state
end
