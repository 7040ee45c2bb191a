-- Included by scripts that write grouped feeds: put what came in into the list of what hooks are to be told of the feed *z*. It is
-- bounded: beyond 1000 the oldest go, and all of it after a week in which nothing came. As in feedmill/storage/hook_queue.py.
local function note_arrivals(z, items)
  local key, count = z .. ':arrivals', 0
  for i = 1, #items, 1000 do
    local last = math.min(i + 999, #items)
    count = redis.pcall('RPUSH', key, unpack(items, i, last))
    if type(count) == 'table' then -- a key of a wrong type must not close the feed
      redis.call('UNLINK', key)
      count = redis.call('RPUSH', key, unpack(items, i, last))
    end
  end
  if count > 1000 then redis.call('LTRIM', key, -1000, -1) end
  redis.call('EXPIRE', key, 604800)
end
