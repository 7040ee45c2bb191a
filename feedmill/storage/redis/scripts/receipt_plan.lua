-- Begin (or begin again) to plan a fan-out: what an earlier plan did no longer counts.
-- KEYS: receipt (HASH), chunks done (bitmap)
-- Returns: the plan's number
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[1], 'planned', 0, 'done', 0, 'reached', 0, 'complete', 0)
return redis.call('HINCRBY', KEYS[1], 'plan', 1)
