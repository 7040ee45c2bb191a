-- Put the same ids into many flat timelines, each once, keeping them sorted.
-- KEYS: timelines, STRINGs of sorted 16-byte ids (big-endian time first), oldest first
-- ARGV: max_length; the time (µs) before which ids are too old, or 0; the seconds after which an idle feed goes, or 0; '1' if
--       one that is not there begins; front of the feeds' channels ('': nothing is published); then the ids, oldest first
-- Returns: how many ids were new, over all timelines
-- Ids are compared as numbers: Lua's < on strings follows the server's locale.
local call, num = redis.call, struct.unpack
local cut, horizon, idle, begins = tonumber(ARGV[1]) * 16, tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local channel = ARGV[5]
local ids = {}
for i = 6, #ARGV do
  local t, h = num('>I7', ARGV[i])
  ids[#ids + 1] = {ARGV[i], t}
end
local function before(a, b) -- a < b, for two ids of the same microsecond
  local a1, a2 = num('>I4I5', a, 8)
  local b1, b2 = num('>I4I5', b, 8)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end
-- Redis doubles the memory of a string that outgrows it. Done while the string is at 5/8 of its length, that leaves a
-- quarter to spare and no more; half of it comes first, because memory is handed out a little larger than asked for.
local function rewrite(key, text)
  local half, most = math.floor(#text / 32) * 16, math.floor(#text / 25.6) * 16 + 16
  call('SET', key, string.sub(text, 1, half))
  call('APPEND', key, string.sub(text, half + 1, most))
  call('APPEND', key, string.sub(text, most + 1))
end
-- include: aged_ids
-- include: present
-- Cut off what is too old once that is more than an eighth.
local function age(key)
  local held = math.floor(call('STRLEN', key) / 16)
  local old = aged_ids(key, held, horizon)
  if old > 0 and old == held then call('DEL', key)
  elseif old * 8 > held then rewrite(key, call('GETRANGE', key, old * 16, -1)) end
end
local added = 0
for k = 1, #KEYS do
  local key, grown, before_key = KEYS[k], false, added
  for i = 1, (idle == 0 or present(key, idle, begins)) and #ids or 0 do
    local id, t = ids[i][1], ids[i][2]
    local last = call('GETRANGE', key, -16, -1)
    local lt = #last == 16 and num('>I7', last) or -1
    if lt < t or (lt == t and last ~= id and before(last, id)) then
      grown = call('APPEND', key, id)
      added = added + 1
    elseif last ~= id then
      local lo, hi = 0, math.floor(call('STRLEN', key) / 16)
      while lo < hi do -- first entry that is not before id
        local mid = math.floor((lo + hi) / 2)
        local e = call('GETRANGE', key, mid * 16, mid * 16 + 15)
        local et = num('>I7', e)
        if et < t or (et == t and e ~= id and before(e, id)) then lo = mid + 1 else hi = mid end
      end
      local tail = call('GETRANGE', key, lo * 16, -1)
      if string.sub(tail, 1, 16) ~= id then
        grown = call('SETRANGE', key, lo * 16, id .. tail)
        added = added + 1
      end
    end
  end
  if channel ~= '' and added > before_key then
    call('PUBLISH', channel .. ':' .. key, '{"added": ' .. added - before_key .. '}')
  end
  if grown and (grown == cut or grown > 1.25 * cut) then rewrite(key, call('GETRANGE', key, -cut, -1)) end
  if grown and horizon > 0 then age(key) end
end
return added
