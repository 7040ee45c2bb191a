-- Renew a claim, and write down with it that the fan-out is begun now, so that whoever claims it next and finds nothing else
-- knows that its worker died in it; or its chunks, before they are sent.
-- KEYS: clock (STRING), record (HASH), chunks (HASH), due (ZSET: fan-out -> ms), what is taken for the wake-up message that the claim
--   answers (HASH: fan-out -> ms)
-- ARGV: fan-out, generation, the time that proves the claim, lease (ms), seconds to keep the chunks; how often it was begun, or '' if
--   it is not begun now, how many of these never ended, what is to be told of that or ''; then number and packed chunk of each
-- Returns: the new time that proves the claim; or '' if the claim is lost or the generation no longer the current one: then
--   nothing was written
-- include: journal
local r, chunks, due, taken = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local name, generation, time, lease, keep, tried, deaths, told = unpack(ARGV, 1, 8)
if call('HGET', r, 'generation') ~= generation then return '' end
local held = redis.pcall('ZSCORE', due, name)
if type(held) == 'table' then return failed(held, due) end
if tonumber(held or 0) ~= tonumber(time) then return '' end
local at = string.format('%.2f', now + lease - 0.25)
call('ZADD', due, at, name)
if tried ~= '' then call('HSET', r, 'tried', tried, 'deaths', deaths) end
if told ~= '' then call('HSET', r, 'error', told) end
local parts = {}
for i = 9, #ARGV, 2 do parts[i - 8], parts[i - 7] = generation .. '.' .. ARGV[i], ARGV[i + 1] end
if #parts > 0 then
  call('HSET', chunks, unpack(parts))
  call('HSET', r, 'planned', whole(number(call('HGET', r, 'planned')) + #parts / 2))
  call('EXPIRE', chunks, keep)
end
redis.pcall('HSET', taken, name, at)
call('EXPIRE', taken, math.ceil(lease / 1000))
keep_clock()
return at
