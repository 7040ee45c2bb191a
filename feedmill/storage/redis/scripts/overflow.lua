-- Included by append.lua: members of one group are moved beside its record, into the parts of their actors.
-- A part is laid out as feedmill/records/overflow.py says, a row as the serializers say.
local stay, limit = tonumber(ARGV[8]), tonumber(ARGV[9])
-- By its first byte: the size of a packed value, or of the number behind that byte that tells it.
local sizes = {[192] = 1, [204] = 2, [205] = 3, [206] = 5, [207] = 9, [208] = 2, [209] = 3, [210] = 5, [211] = 9, [216] = 18}
local widths = {[196] = 1, [197] = 2, [198] = 4, [217] = 1, [218] = 2, [219] = 4}

-- Where the packed number, text, UUID, bytes or nothing at a place ends; nil for anything else.
local function behind(text, at)
  local first = byte(text, at)
  if not first then return nil end
  local size = sizes[first]
  if first < 128 or first > 223 then size = 1
  elseif first > 159 and first < 192 then size = first - 159
  elseif not size then
    local width = widths[first]
    if not width or at + width > #text then return nil end
    size = 1 + width + num('>I' .. width, text, at + 1)
  end
  if at + size > #text + 1 then return nil end
  return at + size
end

-- What a part says of a member, whose loose row is given.
local function entry(row)
  if counted then return row .. pack('>I4', #row) end
  return row
end

-- The rows of a record, the member that is added among them: times, actors, where each row begins, and a function that
-- gives what a part says of one; nil if they are not understood.
local function split(text, add, mixed, rows)
  local times, actors, starts, at, number = {}, {}, {}, 1, 0
  local high, last = mixed and 0 or num('>I2', add[6]) * 2 ^ 40, #text
  if not counted then
    local size = mixed and 16 or 14
    if last ~= size * rows then return nil end
    for n = 1, rows do
      at = 1 + (n - 1) * size
      starts[n] = at
      if mixed then times[n] = num('>I7', text, at) else times[n] = high + num('>I5', text, at) end
      actors[n] = sub(text, at + size - 9, at + size - 6)
    end
  else
    while at <= last do
      local who, stop = at + 5
      number = number + 1
      starts[number] = at
      if mixed then -- a list of 4 to 6 values that begins with a time of eight bytes
        local values = byte(text, at) - 144
        if values < 4 or values > 6 or byte(text, at + 1) ~= 207 or at + 9 > last then return nil end
        times[number], who = num('>I8', text, at + 2), at + 10
        stop = behind(text, who)
        actors[number] = stop and sub(text, who, stop - 1)
        for _ = 3, values do stop = stop and behind(text, stop) end
      else
        stop = behind(text, who)
        times[number] = stop and high + num('>I5', text, at)
        if not stop or times[number] < 2 ^ 32 then return nil end -- a body would have a shorter time
        actors[number] = sub(text, who, stop - 1)
      end
      if not stop then return nil end
      at = stop
    end
    if number ~= rows then return nil end
  end
  starts[rows + 1] = last + 1
  local list, tail = sub(add[8], 1, 1) .. '\207', sub(add[8], 2 + #add[9])
  return times, actors, starts, function(n)
    local row = sub(text, starts[n], starts[n + 1] - 1)
    if not mixed then row = counted and list .. pack('>I8', times[n]) .. actors[n] .. tail or add[6] .. row end
    return entry(row)
  end
end

-- A command on the hash beside a record. What lies there and is no hash is in the way, and goes.
local function beside(command, s, ...)
  local reply = redis.pcall(command, s, ...)
  if type(reply) == 'table' and reply.err then
    if find(reply.err, 'WRONGTYPE', 1, true) then call('UNLINK', s) end
    reply = call(command, s, ...)
  end
  return reply
end

-- Put a member that is older than the newest overflow member beside the record: the head of the record, or nil.
local function add_to_overflow(s, add, count, actors, created)
  local part = beside('HGET', s, add[3])
  if part and find(part, add[9], 1, true) then return nil end
  call('HSET', s, add[3], (part or '') .. entry(add[8]))
  return pack('>I4I4I7', count + 1, actors + (part and 0 or 1), math.min(created, add[5]))
end

-- Move to the overflow all but the newest members of a record that is full, with the added one: its head, and the rows that stay; or nil.
-- Given are all rows, whether they are loose, how many there are, and the numbers of a group that has overflow before.
-- Of a truncated group those that came back may be older than its newest that is let go of: that stays the newest.
local function overflow(s, add, text, mixed, rows, truncated, count, actors, created, before)
  if count and count >= limit and not truncated or truncated and not count then return nil end
  local times, whose, starts, part_of = split(text, add, mixed, rows)
  if not times then return nil end
  local order = {}
  for n = 1, rows do order[n] = times[n] end
  table.sort(order)
  local top = order[rows - stay]
  if order[rows - stay + 1] == top then return nil end -- of one microsecond: their ids tell which is newer
  local kept, names, parts, new = {}, {}, {}, 1
  local function name_part(actor)
    if not parts[actor] then names[#names + 1], parts[actor] = actor, '' end
  end
  for n = 1, rows do
    if times[n] > top then kept[#kept + 1] = sub(text, starts[n], starts[n + 1] - 1)
    elseif not truncated then
      name_part(whose[n])
      parts[whose[n]] = parts[whose[n]] .. part_of(n)
    end
    if truncated and n < rows and whose[n] == add[3] then new = 0 end
    if not count then name_part(whose[n]) end
  end
  if truncated then new = new - new * beside('HEXISTS', s, add[3])
  elseif count then
    name_part(add[3])
    local held = beside('HMGET', s, unpack(names))
    for n = 1, #names do
      if held[n] and names[n] == add[3] then new = 0 end
      parts[names[n]] = (held[n] or '') .. parts[names[n]]
    end
  else
    call('UNLINK', s)
    count, actors, created = rows - 1, #names - 1, order[1]
  end
  local fields = {}
  for n = 1, #names do fields[2 * n - 1], fields[2 * n] = names[n], parts[names[n]] end
  if #fields > 0 then call('HSET', s, unpack(fields)) end
  return pack('>I4I4I7I7', count + 1, actors + new, math.min(created, order[1]), math.max(before or 0, top)), table.concat(kept)
end
