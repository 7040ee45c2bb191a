-- Change fields of a receipt, if the plan is still the current one.
-- KEYS: receipt (HASH)
-- ARGV: plan, number of increments; then field and amount of each; then field and value of what is set
-- Returns: 1, or 0 if the plan is no longer the current one
local call, r = redis.call, KEYS[1]
if call('HGET', r, 'plan') ~= ARGV[1] then return 0 end
local sets = 3 + 2 * ARGV[2]
for i = 3, sets - 1, 2 do call('HINCRBY', r, ARGV[i], ARGV[i + 1]) end
for i = sets, #ARGV, 2 do call('HSET', r, ARGV[i], ARGV[i + 1]) end
return 1
