-- Read one group at one moment: its record, and the actors beside it, or what of some of them is beside it.
-- KEYS: state and records (HASH)
-- ARGV: group; then actors, if what of them is beside the record is asked for
-- Returns: {record} or {false} without, then of a group that has overflow all actors that its overflow names; or, if actors are
--          given, each that it names followed by the bytes of its part
local call, h, group = redis.call, KEYS[1], ARGV[1]
local record = call('HGET', h, group)
if not record or (string.byte(record) or 0) % 2 == 0 then return {record} end
local overflow, out = h .. ':' .. group, {record}
if #ARGV == 1 then
  local names = redis.pcall('HKEYS', overflow)
  if names.err then return out end -- it is no hash: nothing that is beside the record can be read
  table.insert(names, 1, record)
  return names
end
for i = 2, #ARGV, 1000 do -- unpack has a limit
  local last = math.min(i + 999, #ARGV)
  local parts = redis.pcall('HMGET', overflow, unpack(ARGV, i, last))
  if parts.err then return out end
  for j = i, last do
    if parts[j - i + 1] then out[#out + 1], out[#out + 2] = ARGV[j], parts[j - i + 1] end
  end
end
return out
