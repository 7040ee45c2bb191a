-- Read groups, newest first, with the feed's state.
-- KEYS: groups by score (ZSET), state and records (HASH)
-- ARGV: ranks to pass over, how many groups at most, how many of the newest groups count at all,
--       score and group behind which to begin ('' and '' to begin at the top)
-- Returns: {state, 1 if more follow else 0, group, score, record, group, score, record, …}
local call, z, score, group = redis.call, KEYS[1], ARGV[4], ARGV[5]
local function below(name) -- in the order of bytes, which is Redis'; Lua's < follows the server's locale
  for i = 1, math.min(#name, #group) do
    local a, b = string.byte(name, i), string.byte(group, i)
    if a ~= b then return a < b end
  end
  return #name < #group
end
local first, window = tonumber(ARGV[1]), tonumber(ARGV[3])
if score ~= '' then -- the place is found by search, for the group itself may be gone
  local lo = call('ZCOUNT', z, '(' .. score, '+inf')
  local hi = lo + call('ZCOUNT', z, score, score)
  while lo < hi do
    local mid = math.floor((lo + hi) / 2)
    if below(call('ZREVRANGE', z, mid, mid)[1]) then hi = mid else lo = mid + 1 end
  end
  first = first + lo
end
local stop = math.min(first + tonumber(ARGV[2]), window)
local names, scores = {}, {}
if first < stop then
  local got = call('ZREVRANGE', z, first, stop - 1, 'WITHSCORES')
  for i = 1, #got, 2 do names[#names + 1], scores[#scores + 1] = got[i], got[i + 1] end
end
local m = call('HGET', KEYS[2], '\0m') or '0'
local out = {string.sub(m, string.byte(m) == 49 and 23 or 2), stop < math.min(call('ZCARD', z), window) and 1 or 0}
for i = 1, #names, 1000 do -- unpack has a limit
  local records = call('HMGET', KEYS[2], unpack(names, i, math.min(i + 999, #names)))
  for j = 1, #records do
    local n = i + j - 1
    out[3 * n], out[3 * n + 1], out[3 * n + 2] = names[n], scores[n], records[j]
  end
end
return out
