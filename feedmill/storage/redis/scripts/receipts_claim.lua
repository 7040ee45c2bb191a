-- Begin to work on claimed fan-outs. What an earlier plan did no longer counts, unless all its chunks are written down.
-- KEYS: receipts (HASH)
-- ARGV: ms for which a fan-out is left to workers that know all its feeds
-- Returns: for each {op, plan, chunks if all are written down, attempts, body, ms until it is to be done again, how many of
--   the chunks were sent, names of the feeds that it is for, the full queue that it waits for or '', how often it was
--   really begun, this time included, how many of these never ended}, or '' for one that is
--   finished, gone or damaged: the doctor finds those, and they must not hold up the others
local call, out = redis.call, {}
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function claim(r)
  local got = call('HMGET', r, 'op', 'plan', 'complete', 'finished', 'again', 'body', 'planned', 'done', 'seen', 'sent', 'feeds', 'waits', 'created', 'reached', 'attempts', 'tried', 'deaths', 'skipped')
  if not got[1] or (got[4] and not got[5]) then return '' end
  local complete = got[3] == '1' and not got[4]
  local plan = complete and got[2] or call('HINCRBY', r, 'plan', 1)
  if got[4] then -- it is done once more: until that is over, statuses tell what was
    call('HSETNX', r, 'was', (got[7] or 0) .. ' ' .. (got[8] or 0) .. ' ' .. (got[14] or 0))
  end
  if not complete and got[7] then
    call('UNLINK', r .. ':chunks')
    call('HDEL', r, 'sent')
    call('HSET', r, 'planned', 0, 'done', 0, 'reached', 0, 'complete', 0)
  end
  if not complete then call('HSET', r, 'listed', now) end
  if not complete and got[18] then call('HDEL', r, 'skipped') end
  local tried, deaths = tonumber(got[16] or (complete and tonumber(got[15] or 0) > 0 and 1) or 0), tonumber(got[17] or 0)
  local waits = complete and tonumber(got[10] or got[7]) < tonumber(got[7])
  if waits or (complete and (got[8] or '0') ~= (got[9] or '0')) then -- it moves: count the attempts from here
    call('HSET', r, 'seen', got[8] or 0, 'attempts', 0)
    call('HDEL', r, 'tried', 'deaths')
    tried, deaths = 0, 0
  end
  local attempts = call('HINCRBY', r, 'attempts', 1)
  call('HSET', r, 'claimed', now)
  local sent, again = complete and (got[10] or got[7]) or 0, math.max(0, (got[5] or 0) - now)
  local feeds = now - (got[13] or 0) < tonumber(ARGV[1]) and got[11] or ''
  return {got[1], plan, complete and got[7] or 0, attempts, got[6] or '', again, sent, feeds, not complete and got[12] or '', tried + 1, deaths}
end
for k = 1, #KEYS do
  local sound, found = pcall(claim, KEYS[k])
  if not sound then -- a server that takes no writes is no damage
    local why = type(found) == 'table' and found.err or tostring(found)
    for _, code in ipairs({'OOM ', 'MISCONF ', 'READONLY ', 'NOREPLICAS '}) do
      if string.find(why, code, 1, true) then error(found) end
    end
  end
  out[k] = sound and found or ''
end
return out
