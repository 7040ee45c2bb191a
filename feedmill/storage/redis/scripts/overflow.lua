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

-- What a part says of an addition.
local function part_of_addition(add)
  if not add.part then add.part = entry(add[8]) end
  return add.part
end

-- The rows of additions from j up to upto, one behind the other; which says where in an addition its row is.
local joined = {}
local function rows_of(which, j, upto)
  if j == upto then return adds[j][which] end
  local name = (which * 2 ^ 20 + j) * 2 ^ 20 + upto
  if not joined[name] then
    local list = {}
    for i = j, upto do list[#list + 1] = adds[i][which] end
    joined[name] = table.concat(list)
  end
  return joined[name]
end

-- The actors of additions from j up to upto, each once.
local actors_of_runs = {}
local function actors_of(j, upto)
  local name = j * 2 ^ 20 + upto
  if not actors_of_runs[name] then
    local names, known = {}, {}
    for i = j, upto do
      local actor = adds[i][3]
      if not known[actor] then names[#names + 1], known[actor] = actor, true end
    end
    actors_of_runs[name] = names
  end
  return actors_of_runs[name]
end

local wholes = {} -- by what stands in a row in place of a number of 20 bits, or of 28
-- The packed actor that *short*, which begins with the byte *first*, stands for; as feedmill/msgpack_codec.py shortens it.
local function whole(short, first)
  wholes[short] = (first < 144 and '\206\0' or '\206') .. char(first % 16) .. sub(short, 2)
  return wholes[short]
end

local layouts = {} -- by how many rows there are, negative for loose ones: how to read their times and actors
-- The rows of a record: times, actors, where each row begins, and a function that gives what a part says of one; nil if they are not
-- understood.
local function split(text, add, mixed, rows)
  local times, actors, starts, at, number, ascending = {}, {}, {}, 1, 0, true
  local high, last = mixed and 0 or num('>I2', add[6]) * 2 ^ 40, #text
  if not counted then
    local size = mixed and 16 or 14
    if last ~= size * rows then return nil end
    local layout = layouts[mixed and -rows or rows]
    if not layout then
      layout = '>' .. string.rep((mixed and 'I7' or 'I5') .. 'c4xxxxx', rows)
      layouts[mixed and -rows or rows] = layout
    end
    local values = {num(layout, text)}
    for n = 1, rows do
      times[n], actors[n], starts[n] = high + values[2 * n - 1], values[2 * n], 1 + (n - 1) * size
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
        local first = byte(text, who) or 0
        local short = first > 127 and first < 160
        stop = short and who + (first < 144 and 3 or 4) or behind(text, who)
        if not stop or stop > last + 1 then return nil end
        local actor = sub(text, who, stop - 1)
        actors[number] = short and (wholes[actor] or whole(actor, first)) or actor
        times[number] = high + num('>I5', text, at)
        if times[number] < 2 ^ 32 then return nil end -- a body would have a shorter time
      end
      if not stop then return nil end
      at = stop
    end
    if number ~= rows then return nil end
  end
  starts[rows + 1] = last + 1
  for n = 2, rows do ascending = ascending and times[n - 1] <= times[n] end
  local list, tail = sub(add[8], 1, 1) .. '\207', sub(add[8], 2 + #add[9])
  return times, actors, starts, function(n)
    local row = sub(text, starts[n], starts[n + 1] - 1)
    if not mixed then row = counted and list .. pack('>I8', times[n]) .. actors[n] .. tail or add[6] .. row end
    return entry(row)
  end, ascending
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

-- Write fields beside a record: names and values in turn.
local function put(s, fields)
  for i = 1, #fields, 1000 do call('HSET', s, unpack(fields, i, math.min(i + 999, #fields))) end
end

-- Put members that are older than the newest overflow member beside the record, the additions from j up to at most upto: the head of the
-- record, and which was the last; or nil.
local function add_to_overflow(s, j, upto, count, actors, created)
  local add = adds[j]
  if j == upto then
    local part = beside('HGET', s, add[3])
    if part and find(part, add[9], 1, true) then return nil end
    call('HSET', s, add[3], (part or '') .. part_of_addition(add))
    return pack('>I4I4I7', count + 1, actors + (part and 0 or 1), math.min(created, add[5])), j
  end
  local names, parts, fields, new = actors_of(j, upto), {}, {}, 0
  local held = hmget(beside, s, names, 1, #names)
  for n = 1, #names do parts[names[n]] = held[n] or '' end
  for i = j, upto do
    local actor, match = adds[i][3], adds[i][9]
    if find(parts[actor], match, 1, true) then
      upto = i - 1
      break
    end
    parts[actor] = parts[actor] .. part_of_addition(adds[i])
  end
  if upto < j then return nil end
  for n = 1, #names do
    local part = parts[names[n]]
    if part ~= (held[n] or '') then
      fields[#fields + 1], fields[#fields + 2], new = names[n], part, new + (held[n] and 0 or 1)
    end
  end
  put(s, fields)
  return pack('>I4I4I7', count + upto - j + 1, actors + new, math.min(created, add[5])), upto
end

-- Name the actors of additions from j up to upto beside the record; how many were not named there.
local function name_actors(s, j, upto)
  if j == upto then return beside('HSETNX', s, adds[j][3], '') end
  local names, fields = actors_of(j, upto), {}
  local held = hmget(beside, s, names, 1, #names)
  for n = 1, #names do
    if not held[n] then fields[#fields + 1], fields[#fields + 2] = names[n], '' end
  end
  put(s, fields)
  return #fields / 2
end

-- Move to the overflow all but the newest members of a record that is full, with the additions from j up to upto: its head, the rows
-- that stay, and how many; or nil.
-- Given are all rows that it has, whether they are loose, where in an addition its row is, how many rows there are, and the numbers of
-- a group that has overflow before. Several additions must be newer than all rows.
-- Of a truncated group those that came back may be older than its newest that is let go of: that stays the newest.
local function overflow(s, j, upto, text, mixed, which, rows, truncated, count, actors, created, before)
  local before_all = count or (upto > j and rows or 0)
  if before_all + upto - j >= limit and not truncated or truncated and not count then return nil end
  local times, whose, starts, part_of, ascending = split(text, adds[j], mixed, rows)
  if not times then return nil end
  local all, in_order = rows + upto - j + 1, ascending and times[rows] < adds[j][5]
  if upto > j and not in_order then return nil end
  for n = rows + 1, all do
    local add = adds[j + n - rows - 1]
    times[n], whose[n] = add[5], add[3]
  end
  -- Each time that there is one more than a record holds all but the newest few go.
  local go, order = math.ceil((all - held) / (held + 1 - stay)) * (held + 1 - stay), times
  if not in_order then
    order = {unpack(times)}
    table.sort(order)
  end
  local top, oldest = order[go], order[1]
  if order[go + 1] == top then return nil end -- of one microsecond: their ids tell which is newer
  local names, parts, new = {}, {}, 0
  local function name_part(actor, bytes)
    if not parts[actor] then names[#names + 1], parts[actor] = actor, bytes else parts[actor] = parts[actor] .. bytes end
  end
  for n = rows + 1, truncated and rows or all do name_part(whose[n], '') end
  local added, kept = #names, {}
  for n = 1, in_order and go or all do
    if times[n] > top then kept[#kept + 1] = n > rows and adds[j][which] or sub(text, starts[n], starts[n + 1] - 1)
    elseif not truncated then name_part(whose[n], n > rows and part_of_addition(adds[j + n - rows - 1]) or part_of(n)) end
  end
  if in_order and go < rows then kept = {sub(text, starts[go + 1]), rows_of(which, j, upto)}
  elseif in_order then kept = {rows_of(which, j + go - rows, upto)} end
  if truncated then
    new = 1
    for n = 1, rows do
      if whose[n] == adds[j][3] then new = 0 end
    end
    new = new - new * beside('HEXISTS', s, adds[j][3])
  elseif count then
    local held = hmget(beside, s, names, 1, #names)
    for n = 1, #names do
      if held[n] then parts[names[n]] = parts[names[n]] ~= '' and held[n] .. parts[names[n]]
      elseif n <= added then new = new + 1 end
    end
  else
    if call('EXISTS', s) == 1 then call('UNLINK', s) end -- a full server must refuse the first write
    for n = 1, rows do name_part(whose[n], '') end
    count, actors, created = rows, #names, oldest
  end
  local fields = {}
  for n = 1, #names do
    if parts[names[n]] then fields[#fields + 1], fields[#fields + 2] = names[n], parts[names[n]] end
  end
  put(s, fields)
  local head = pack('>I4I4I7I7', count + upto - j + 1, actors + new, math.min(created, oldest), math.max(before or 0, top))
  return head, table.concat(kept), all - go
end
