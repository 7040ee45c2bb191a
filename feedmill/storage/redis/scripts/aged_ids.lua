-- Included by scripts of flat timelines: how many of a timeline's ids are of a time before the horizon (µs), found by binary search.
local function aged_ids(key, held, horizon)
  local function is_old(n) return struct.unpack('>I7', redis.call('GETRANGE', key, n * 16, n * 16 + 6)) < horizon end
  local lo, hi = 0, held
  if held == 0 or not is_old(0) then return 0 end
  while lo < hi do
    local mid = math.floor((lo + hi) / 2)
    if is_old(mid) then lo = mid + 1 else hi = mid end
  end
  return lo
end
