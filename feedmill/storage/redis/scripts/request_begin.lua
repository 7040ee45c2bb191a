-- Begin what a request with an idempotency key asks for, unless that was done, or somebody is at it.
-- KEYS: request (HASH)
-- ARGV: fingerprint of what it asks for, token of who begins it, ms for which it is held, seconds for which it is kept
-- Returns: {what is so: begun, done, running or other; µs since 1970 when it came first; the answer or ''}
local fingerprint, token, lease, seconds = unpack(ARGV)
local call, clock = redis.call, redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known, first, answer, holder, held = unpack(call('HMGET', KEYS[1], 'fingerprint', 'first', 'answer', 'holder', 'held'), 1, 5)
if known and known ~= fingerprint then return {'other', first, ''} end
if answer then return {'done', first, answer} end
held = tonumber(held or 0)
if holder and holder ~= token and held > now and held <= now + lease then return {'running', first, ''} end
if not first then first = string.format('%.0f', clock[1] * 1000000 + clock[2]) end
call('HSET', KEYS[1], 'fingerprint', fingerprint, 'first', first, 'holder', token, 'held', string.format('%.0f', now + lease))
call('EXPIRE', KEYS[1], seconds)
return {'begun', first, ''}
