-- Clear the bell, take what is due for as long as the lease lasts, and begin to work on it. If there is more than is wanted,
-- the oldest half and the newest half: what is new does not wait behind a crowd.
-- A bell that comes again was not answered to its end: whoever took claims for it is dead, and they are due at once.
-- What an earlier plan did no longer counts, unless all its chunks are written down.
-- KEYS: clock (STRING), due (ZSET: fan-out -> ms), bell (STRING), what is taken for this bell (HASH: fan-out -> ms), what the
--   keys of the receipts (HASH) of these fan-outs begin with
-- ARGV: how many, lease (ms), ms that a bell stays rung, ms for which a fan-out is left to workers that know all its feeds,
--   number of the last unfollow, or of one before
-- Returns: {the time in due, which proves the claims; 1 if more is due and the caller is to send a bell; what was claimed;
--   fan-outs whose receipt is damaged: the doctor finds those, and they hold up nobody}; of what was claimed {fan-out, op, plan, chunks if all are
--   written down, attempts, body, how many of the chunks were sent, names of the feeds that it is for,
--   the full queue that it waits for or '', how often it was really begun, this time included, how many of these never ended,
--   number of the last unfollow, or of one before, when its people were listed first; '' if they never were}
-- What was put in ends in whole milliseconds, claims in halves and a little, what was put off
-- in quarters: none is taken for another.
-- include: journal
local limit, lease, stays, rolling, unfollows = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local due, bell, taken, beginning = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FIELDS = {'op', 'plan', 'complete', 'finished', 'again', 'body', 'planned', 'done', 'seen', 'sent', 'feeds', 'waits', 'created', 'reached', 'attempts', 'was', 'tried', 'deaths', 'skipped', 'listed'}
local NUMBERS = {'plan', 'planned', 'done', 'seen', 'sent', 'created', 'reached', 'attempts', 'tried', 'deaths', 'listed'}

local count = redis.pcall('ZCOUNT', due, '-inf', now)
if type(count) == 'table' then return failed(count, due) end
local ids, known, before = {}, {}, redis.pcall('HGETALL', taken)
local function add(id)
  if not known[id] then ids[#ids + 1], known[id] = id, true end
end
for i = 1, before.err and 0 or #before, 2 do
  if #ids < limit and tonumber(call('ZSCORE', due, before[i]) or 0) == tonumber(before[i + 1]) then add(before[i]) end
end
local room = limit - #ids
local function take(from, to)
  if to < from then return end
  for _, id in ipairs(call('ZRANGE', due, from, to)) do add(id) end
end
if count > room then
  local old = math.floor(room / 2)
  take(0, old - 1)
  take(count - room + old, count - 1)
else take(0, count - 1) end

local at = now + lease + 0.5
local function spelled() return string.format('%.3f', at) end
while call('ZCOUNT', due, spelled(), spelled()) > 0 do at = at + 0.001 end -- of another claim in this millisecond
local held = spelled()

-- What is to be claimed, what is over, and what makes no sense; nothing is written yet.
local claims, over, damaged = {}, {}, {}
for _, id in ipairs(ids) do
  local got = redis.pcall('HMGET', beginning .. id, unpack(FIELDS))
  local sound, f = not got.err and not string.find(id, '[^%w_.-]'), {}
  for place, field in ipairs(FIELDS) do f[field] = got[place] end
  for _, field in ipairs(NUMBERS) do
    sound = sound and (not f[field] or (#f[field] < 17 and string.find(f[field], field == 'listed' and '^%d*$' or '^%d+$') ~= nil))
  end
  sound = sound and (not f.op or (f.plan and string.find(f.op, '^[%w_]+$') and (f.complete ~= '1' or f.planned)))
  sound = sound and string.find(f.again or '0', '^%d+%.?%d*$')
  if not sound then over[#over + 1], damaged[#damaged + 1] = id, id
  elseif not f.op or (f.finished and not f.again) then over[#over + 1] = id
  else claims[#claims + 1] = {id, f} end
end

local moves, mine = {}, {}
for i, claim in ipairs(claims) do
  moves[2 * i - 1], moves[2 * i] = held, claim[1]
  mine[2 * i - 1], mine[2 * i] = claim[1], held
end
if #claims > 0 then call('ZADD', due, unpack(moves)) end
if #over > 0 then call('ZREM', due, unpack(over)) end
local out = {}
for i, claim in ipairs(claims) do
  local id, f = unpack(claim)
  local r, planned, done = beginning .. id, number(f.planned), number(f.done)
  local complete = f.complete == '1' and not f.finished
  local plan, attempts, sent = f.plan, number(f.attempts), 0
  -- who wrote down all chunks did begin it
  local tried, deaths = f.tried and number(f.tried) or complete and attempts > 0 and 1 or 0, number(f.deaths)
  local sets = {'claimed', whole(now)}
  local function set(field, value) sets[#sets + 1], sets[#sets + 2] = field, value end
  if complete then
    sent = f.sent and number(f.sent) or planned
    if sent < planned or done ~= number(f.seen) then -- it moves: count the attempts from here
      attempts, tried, deaths = 0, 0, 0
      set('seen', done)
      call('HDEL', r, 'tried', 'deaths')
    end
  else
    plan = next_plan(plan)
    set('plan', plan)
    if f.skipped then call('HDEL', r, 'skipped') end
    if f.finished and not f.was then -- it is done once more: until that is over, statuses tell what was
      set('was', planned .. ' ' .. done .. ' ' .. number(f.reached))
    end
    if f.planned then
      for _, field in ipairs({'planned', 'done', 'reached', 'complete'}) do set(field, 0) end
      call('UNLINK', r .. ':chunks')
      call('HDEL', r, 'sent')
    end
  end
  if f.listed == '' then f.listed = nil end
  if not f.listed then set('listed', unfollows) end
  set('attempts', attempts + 1)
  call('HSET', r, unpack(sets))
  local feeds = now - number(f.created) < rolling and f.feeds or ''
  out[i] = {id, f.op, plan, complete and planned or 0, attempts + 1, f.body or '', sent, feeds, not complete and f.waits or '', tried + 1, deaths, f.listed or ''}
end
call('DEL', bell, taken)
if #claims > 0 then
  call('HSET', taken, unpack(mine))
  call('EXPIRE', taken, math.ceil(lease / 1000))
end
keep_clock()
local ring = count > room and call('SET', bell, 1, 'NX', 'PX', stays)
return {held, ring and 1 or 0, out, damaged}
