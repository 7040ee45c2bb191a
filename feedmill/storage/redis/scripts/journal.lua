-- Part of every script of the journal: its clock, numbers, errors that name a key, and the end of a fan-out.
-- KEYS[1]: the clock (STRING: how far it has come and how far it is ahead of the server's, in ms)
-- The clock is the server's, except that it never goes back. The server's does, when somebody sets it or when a replica takes
-- over; what is due would wait until it had caught up. So from then on this one goes on from where it was.
-- All keys of such a script are in one slot. It is refused before its first write or takes effect whole: whatever may fail
-- is read before, and the first write is one that needs memory, so that a full server refuses it.
local call = redis.call
local function number(text) -- what a fan-out record holds may be anything; what is no sensible number counts as 0
  local value = text and #text < 20 and tonumber(string.match(text, '^%d+%.?%d*$')) or 0
  return value < 9e15 and value or 0
end
local function age(created, now) return created and math.max(0, now - number(created)) or 0 end -- ms since a fan-out was opened
local function whole(value) return string.format('%.0f', value) end
local time, kept = call('TIME'), redis.pcall('GET', KEYS[1])
local micros = time[1] * 1000000 + time[2]
local server = math.floor(micros / 1000)
local come, ahead = 0, 0
if type(kept) == 'string' then
  come, ahead = string.match(kept, '^(%d+) (%d+)$')
  come, ahead = number(come), number(ahead)
  if come > 4e12 or ahead > 4e12 then come, ahead = 0, 0 end -- no time that was ever come to
end
local now = math.max(server + ahead, come)
local function keep_clock() -- after the first write
  if now - come >= 1000 or now - server ~= ahead then
    redis.pcall('SET', KEYS[1], whole(now) .. ' ' .. whole(now - server))
  end
end
local function next_generation(generation) -- never one that was: a server that takes another's place may have lost the last ones
  return whole(math.max(number(generation) + 1, micros))
end
local function failed(reply, key) -- the error of a command about *key*, with its name
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  return redis.error_reply('WRONGTYPE of ' .. key)
end
-- Put into the list of what hooks are to be told that a fan-out has ended. As in feedmill/storage/hook_queue.py: beyond 100000 the oldest
-- go, and all of it after a week in which nothing came.
local function tell(due, name, record, how)
  local f, item = call('HMGET', record, 'created', 'op', 'planned', 'done', 'reached', 'failed', 'skipped', 'dead', 'error'), {how, name}
  for i = 1, 9 do item[i + 2] = f[i] or '' end
  local key = due .. ':ended'
  local text = table.concat(item, '\n')
  local count = redis.pcall('RPUSH', key, text)
  if type(count) == 'table' then
    call('UNLINK', key)
    count = call('RPUSH', key, text)
  end
  if count > 100000 then call('LTRIM', key, -100000, -1) end
  call('EXPIRE', key, 604800)
end
-- Note the end, with what else is to be set (field, value, ...), given what the fan-out record says; when it is to be done again, or nil.
-- Hooks are told of its first end.
local function finished(due, name, record, keep, sets, rerun_at, claimed, repeat_after, finished_at, tells)
  local at = number(rerun_at) > number(claimed) and number(rerun_at) or nil
  local last = not at and repeat_after
  if not finished_at then sets[#sets + 1], sets[#sets + 2] = 'finished', whole(now) end
  if last then
    at = now + number(repeat_after)
    sets[#sets + 1], sets[#sets + 2] = 'rerun_at', whole(at)
  end
  if #sets > 0 then call('HSET', record, unpack(sets)) end
  if tells and not finished_at then tell(due, name, record, 'done') end
  if not at then
    call('HDEL', record, 'previous_progress', 'tried', 'deaths', 'rerun_at', 'body', 'feeds', 'audience_read_at')
    call('EXPIRE', record, keep)
  elseif last then call('HDEL', record, 'previous_progress', 'tried', 'deaths', 'repeat_after')
  else call('HDEL', record, 'previous_progress', 'tried', 'deaths') end
  return at
end
local function conclude(due, name, at) -- the entry of what has ended: it is due again at *at*, or never
  if at then call('ZADD', due, string.format('%.2f', at - 0.25), name) else call('ZREM', due, name) end
end
