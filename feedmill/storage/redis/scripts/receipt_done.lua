-- Note that a chunk is done, once; or (number '') that the plan is complete.
-- KEYS: receipt (HASH), chunks (HASH)
-- ARGV: plan, number, people reached (complete: chunks planned), seconds to keep a finished receipt; then (complete) its
--   time in due, chunks sent
-- Returns: the fan-out's time in due if it is finished and nothing is left to do, else ''
local call, r = redis.call, KEYS[1]
if call('HGET', r, 'plan') ~= ARGV[1] then return '' end
local field = ARGV[1] .. '.' .. ARGV[2]
if ARGV[2] == '' then call('HSET', r, 'planned', ARGV[3], 'complete', 1, 'due', ARGV[5], 'sent', ARGV[6])
elseif call('HDEL', KEYS[2], field) == 1 then
  call('HDEL', KEYS[2], 'begun:' .. field)
  call('HINCRBY', r, 'done', 1)
  call('HINCRBY', r, 'reached', ARGV[3])
end
local got = call('HMGET', r, 'complete', 'planned', 'done', 'again', 'claimed', 'due')
if got[1] ~= '1' or got[2] ~= (got[3] or '0') then return '' end
local clock = call('TIME')
call('HSETNX', r, 'finished', clock[1] * 1000 + math.floor(clock[2] / 1000))
call('HDEL', r, 'was', 'tried', 'deaths')
call('UNLINK', KEYS[2])
if got[4] and tonumber(got[4]) > tonumber(got[5]) then return '' end
call('HDEL', r, 'again', 'body', 'feeds')
call('EXPIRE', r, ARGV[4])
return got[6] or ''
