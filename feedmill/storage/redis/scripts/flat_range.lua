-- Read a part of a flat timeline between two ids, found by binary search.
-- KEYS: timeline, as in flat_add.lua
-- ARGV: lowest id that counts, first id above that does not ('' for no such bound), '1' to count ranks from the oldest,
--       first rank, rank to stop at, how many of the newest ids count at all
-- Returns: {how many ids lie between, those of the wanted ranks, oldest first}
-- Ids are compared as numbers: Lua's < on strings follows the server's locale.
local call, num, key = redis.call, struct.unpack, KEYS[1]
local start, stop = tonumber(ARGV[4]), tonumber(ARGV[5])
local held = math.floor(call('STRLEN', key) / 16)
local function before(a, b)
  local at, ah, al = num('>I7I4I5', a)
  local bt, bh, bl = num('>I7I4I5', b)
  if at ~= bt then return at < bt end
  if ah ~= bh then return ah < bh end
  return al < bl
end
local function place(id) -- how many ids are before id
  local lo, hi = 0, held
  while lo < hi do
    local mid = math.floor((lo + hi) / 2)
    if before(call('GETRANGE', key, mid * 16, mid * 16 + 15), id) then lo = mid + 1 else hi = mid end
  end
  return lo
end
local first, last = math.max(0, held - tonumber(ARGV[6])), held
if ARGV[1] ~= '' then first = math.max(first, place(ARGV[1])) end
if ARGV[2] ~= '' then last = math.max(first, place(ARGV[2])) end
local from, to = math.max(first, last - stop), last - start
if ARGV[3] == '1' then from, to = first + start, math.min(last, first + stop) end
if from >= to then return {last - first, ''} end
return {last - first, call('GETRANGE', key, from * 16, to * 16 - 1)}
