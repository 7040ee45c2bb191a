-- Put the same ids into many flat timelines, each once, keeping them sorted.
-- KEYS: timelines, STRINGs of sorted 16-byte ids (big-endian time first), oldest first
-- ARGV: max_length; the time (µs) before which ids are too old, or 0; the seconds after which an idle feed goes, or 0; '1' if
--       one that is not there begins; front of the feeds' channels ('': nothing is published); then the ids, oldest first
-- Returns: how many ids were new, over all timelines
-- Ids are compared as numbers: Lua's < on strings follows the server's locale. What commands are given is text wherever it
-- is the same for all timelines: to spell a number takes the server as long as to run the command.
local call, num = redis.call, struct.unpack
local cut, horizon, idle, begins = tonumber(ARGV[1]) * 16, tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local channel, most, shown = ARGV[5], 1.25 * cut, '-' .. cut
local function before(a, b) -- a < b
  local at, ah, al = num('>I7I4I5', a)
  local bt, bh, bl = num('>I7I4I5', b)
  if at ~= bt then return at < bt end
  if ah ~= bh then return ah < bh end
  return al < bl
end
-- include: aged_ids
-- include: present
-- include: flat_rewrite
-- Cut off what is too old once that is more than an eighth.
local function age(key)
  local held = math.floor(call('STRLEN', key) / 16)
  local old = aged_ids(key, held, horizon)
  if old > 0 and old == held then call('DEL', key)
  elseif old * 8 > held then rewrite(key, call('GETRANGE', key, old * 16, -1)) end
end
-- Put each id where it belongs in a timeline that ends with last; how many were new, and how long it is then if any was.
local function insert(key, last)
  local added, size = 0, nil
  for i = 6, #ARGV do
    local id = ARGV[i]
    if #last < 16 or before(last, id) then
      added, size, last = added + 1, call('APPEND', key, id), id
    elseif last ~= id then
      local lo, hi = 0, math.floor(call('STRLEN', key) / 16)
      while lo < hi do -- first entry that is not before id
        local mid = math.floor((lo + hi) / 2)
        if before(call('GETRANGE', key, mid * 16, mid * 16 + 15), id) then lo = mid + 1 else hi = mid end
      end
      local tail = call('GETRANGE', key, lo * 16, -1)
      if string.sub(tail, 1, 16) ~= id then
        added, size = added + 1, call('SETRANGE', key, lo * 16, id .. tail)
      end
    end
  end
  return added, size
end
-- All ids in one piece, and the time of the first: a timeline that ends before that takes them as they are.
local each, all, first = #ARGV - 5, table.concat(ARGV, '', 6), num('>I7', ARGV[6])
local total = 0
for k = 1, #KEYS do
  local key = KEYS[k]
  if idle == 0 or present(key, idle, begins) then
    local last, added, size = call('GETRANGE', key, '-16', '-1'), each, nil
    if #last == 0 or (#last == 16 and num('>I7', last) < first) then size = call('APPEND', key, all)
    else added, size = insert(key, last) end
    if size then
      total = total + added
      if channel ~= '' then call('PUBLISH', channel .. ':' .. key, '{"added": ' .. added .. '}') end
      if size == cut or size > most then rewrite(key, call('GETRANGE', key, shown, '-1')) end
      if horizon > 0 then age(key) end
    end
  end
end
return total
