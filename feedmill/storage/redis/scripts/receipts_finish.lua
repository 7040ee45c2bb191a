-- Note that whole fan-outs were done, each in one piece.
-- KEYS: receipts (HASH)
-- ARGV: seconds to keep a finished receipt; then for each the plan and how many people were reached
-- Returns: for each 1, or 0 if the plan is no longer the current one
local call, out = redis.call, {}
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for k = 1, #KEYS do
  local r = KEYS[k]
  out[k] = 0
  if call('HGET', r, 'plan') == ARGV[2 * k] then
    out[k] = 1
    call('HSET', r, 'planned', 1, 'done', 1, 'reached', ARGV[2 * k + 1], 'complete', 1)
    call('HSETNX', r, 'finished', now)
    call('HDEL', r, 'was', 'tried', 'deaths')
    local got = call('HMGET', r, 'again', 'claimed')
    if not got[1] or tonumber(got[1]) <= tonumber(got[2]) then
      call('HDEL', r, 'again', 'body', 'feeds')
      call('EXPIRE', r, ARGV[1])
    end
  end
end
return out
