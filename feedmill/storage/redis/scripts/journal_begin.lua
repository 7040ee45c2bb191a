-- Write down that a claimed fan-out is begun now, and renew the claim: whoever claims it next and finds nothing else knows
-- that its worker died in it.
-- KEYS: clock (STRING), receipt (HASH), due (ZSET: fan-out -> ms), what is taken for the bell that the claim answers (HASH:
--   fan-out -> ms)
-- ARGV: fan-out, plan, the time that proves the claim, lease (ms), how often it was begun, how many of these never ended, what
--   is to be told of that or ''
-- Returns: the new time that proves the claim; or '' if the claim is lost or the plan no longer the current one: then
--   nothing was written
-- include: journal
local r, due, taken = KEYS[2], KEYS[3], KEYS[4]
local name, plan, time, lease, tried, deaths, told = unpack(ARGV)
if call('HGET', r, 'plan') ~= plan then return '' end
local held = redis.pcall('ZSCORE', due, name)
if type(held) == 'table' then return failed(held, due) end
if tonumber(held or 0) ~= tonumber(time) then return '' end
local at = string.format('%.2f', now + lease - 0.25)
call('ZADD', due, at, name)
call('HSET', r, 'tried', tried, 'deaths', deaths)
if told ~= '' then call('HSET', r, 'error', told) end
redis.pcall('HSET', taken, name, at)
call('EXPIRE', taken, math.ceil(lease / 1000))
keep_clock()
return at
