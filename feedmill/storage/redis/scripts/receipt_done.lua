-- Note that a chunk is done, once; or (chunk -1) that the plan is complete.
-- KEYS: receipt (HASH), chunks done (bitmap)
-- ARGV: number of the plan, chunk, people reached (complete: chunks planned), now (ms), seconds to keep a finished receipt
-- Returns: 1 if the fan-out is finished by this, 0 if not, -1 if the plan is not the current one
local call, r = redis.call, KEYS[1]
if call('HGET', r, 'plan') ~= ARGV[1] then return -1 end
local chunk = tonumber(ARGV[2])
if chunk < 0 then call('HSET', r, 'planned', ARGV[3], 'complete', 1)
elseif call('SETBIT', KEYS[2], chunk, 1) == 0 then
  call('HINCRBY', r, 'done', 1)
  call('HINCRBY', r, 'reached', ARGV[3])
end
local got = call('HMGET', r, 'complete', 'planned', 'done', 'finished')
if got[1] ~= '1' or got[2] ~= got[3] then
  call('EXPIRE', KEYS[2], 604800)
  return 0
end
if not got[4] then call('HSET', r, 'finished', ARGV[4]) end
call('EXPIRE', r, ARGV[5])
call('UNLINK', KEYS[2])
return 1
