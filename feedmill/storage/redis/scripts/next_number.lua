-- Included by scripts that number what happens: the number behind *last*, or nothing. It only grows: it is one more, or the time
-- in microseconds if that is higher. So none comes again when a server takes another's place that has lost the last ones.
local function next_number(last)
  local time = redis.call('TIME')
  return math.max(tonumber(last or 0) + 1, time[1] * 1000000 + time[2])
end
