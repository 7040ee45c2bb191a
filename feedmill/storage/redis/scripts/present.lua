-- Included by scripts of feeds that go when they are idle: whether one is there. What is still stored of one that is not is
-- nobody's, and is deleted when it begins anew.
local function clear(key)
  local h = key .. ':groups'
  local groups = redis.call('HKEYS', h)
  for i = 1, #groups do redis.call('UNLINK', h .. ':' .. groups[i]) end
  redis.call('UNLINK', key, h)
end
-- Whether a feed is there to be written; with begins it is made if it is not. Being written it stays for as long again, which is
-- noted once a tenth of the time is over.
local function present(key, idle, begins)
  local remaining = redis.call('TTL', key .. ':present')
  if remaining == -2 then
    if not begins then return false end
    redis.call('SET', key .. ':present', 'w', 'EX', idle)
    clear(key)
  elseif remaining < 0.9 * idle then redis.call('EXPIRE', key .. ':present', idle) end
  return true
end
