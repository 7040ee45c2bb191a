-- Clear the wake-up message, take what is due for as long as the lease lasts, and begin to work on it. If there is more than is wanted,
-- the oldest half and the newest half: what is new does not wait behind a large backlog.
-- A wake-up message that is delivered again was not answered to its end: whoever took claims for it is dead, and they are due at once.
-- What an earlier generation did no longer counts, unless all its chunks are written down.
-- KEYS: clock (STRING), due (ZSET: fan-out -> ms), wake-up message (STRING), what is taken for this wake-up message (HASH: fan-out -> ms), what the
--   keys of the records (HASH) of these fan-outs begin with
-- ARGV: how many, lease (ms), ms that a wake-up message counts as on its way, ms for which a fan-out is left to workers that know all its feeds,
--   number of the last unfollow, or of one before
-- Returns: {the time in due, which proves the claims; 1 if more is due and the caller is to send a wake-up message; what was claimed;
--   fan-outs whose record is damaged: the doctor finds those, and they hold up nobody}; of what was claimed {fan-out, op, generation, chunks if all are
--   written down, attempts, body, how many of the chunks were sent, names of the feeds that it is for,
--   the full queue that it waits for or '', how often it was really begun, this time included, how many of these never ended,
--   number of the last unfollow, or of one before, when its people were listed first, '' if they never were; then, if it belongs to a
--   trace, the context of that}
-- What was put in ends in whole milliseconds, claims in halves and a little, what was put off
-- in quarters: none is taken for another.
-- include: journal
local limit, lease, stays, rolling, unfollows = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local due, wakeup_id, taken, beginning = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- Fields that are numbers come first.
local FIELDS = {'generation', 'planned', 'done', 'progress_at_claim', 'sent', 'created', 'reached', 'attempts', 'tried', 'deaths', 'audience_read_at', 'op', 'fully_planned', 'finished', 'rerun_at', 'body', 'feeds', 'waiting_queue', 'previous_progress', 'skipped', 'repeat_after', 'trace'}
local NUMBERS = 11

local count = redis.pcall('ZCOUNT', due, '-inf', now)
if type(count) == 'table' then return failed(count, due) end
local ids, known, before = {}, {}, redis.pcall('HGETALL', taken)
local function add(id)
  if not known[id] then ids[#ids + 1], known[id] = id, true end
end
for i = 1, before.err and 0 or #before, 2 do
  if #ids < limit and tonumber(call('ZSCORE', due, before[i]) or 0) == tonumber(before[i + 1]) then add(before[i]) end
end
local capacity = limit - #ids
local function take(from, to)
  if to < from then return end
  for _, id in ipairs(call('ZRANGE', due, from, to)) do add(id) end
end
if count > capacity then
  local old = math.floor(capacity / 2)
  take(0, old - 1)
  take(count - capacity + old, count - 1)
else take(0, count - 1) end

local at = now + lease + 0.5
local function spelled() return string.format('%.3f', at) end
while call('ZCOUNT', due, spelled(), spelled()) > 0 do at = at + 0.001 end -- of another claim in this millisecond
local held = spelled()

-- What is to be claimed, what is over, and what makes no sense; nothing is written yet.
local claims, over, damaged, moves, mine = {}, {}, {}, {}, {}
for _, id in ipairs(ids) do
  local f = redis.pcall('HMGET', beginning .. id, unpack(FIELDS))
  local sound = not f.err and not string.find(id, '[^%w_.-]')
  for n = 1, sound and NUMBERS or 0 do
    local value = f[n]
    sound = sound and (not value or (#value < 17 and string.find(value, '^%d+$') ~= nil))
  end
  if sound then
    local generation, planned, op, fully_planned, rerun_at = f[1], f[2], f[12], f[13], f[15]
    sound = not op or (generation and string.find(op, '^[%w_]+$') and (fully_planned ~= '1' or planned))
    sound = sound and (not rerun_at or string.find(rerun_at, '^%d+%.?%d*$'))
  end
  if not sound then over[#over + 1], damaged[#damaged + 1] = id, id
  elseif not f[12] or (f[14] and not f[15]) then over[#over + 1] = id
  else
    local n = #claims + 1
    claims[n], moves[2 * n - 1], moves[2 * n], mine[2 * n - 1], mine[2 * n] = f, held, id, id, held
  end
end

if #claims > 0 then call('ZADD', due, unpack(moves)) end
if #over > 0 then call('ZREM', due, unpack(over)) end
local out, time = {}, whole(now)
for i, f in ipairs(claims) do
  local generation, planned, done, progress_at_claim, sent, created, reached, attempts, tried, deaths, audience_read_at, op, fully_planned, finished_at, rerun_at, body, feeds, waiting_queue, previous, skipped, repeat_after, trace = unpack(f, 1, 22)
  local id = moves[2 * i]
  local r = beginning .. id
  local whole_plan = fully_planned == '1' and not finished_at -- all its chunks are written down
  attempts, deaths = number(attempts), number(deaths)
  -- who wrote down all chunks did begin it
  tried = tried and number(tried) or whole_plan and attempts > 0 and 1 or 0
  local sets = {'claimed', time}
  local function set(field, value) sets[#sets + 1], sets[#sets + 2] = field, value end
  if whole_plan then
    sent = sent and number(sent) or number(planned)
    if sent < number(planned) or number(done) ~= number(progress_at_claim) then -- it moves: count the attempts from here
      attempts, tried, deaths = 0, 0, 0
      set('progress_at_claim', number(done))
      call('HDEL', r, 'tried', 'deaths')
    end
    planned = number(planned)
  else
    generation = next_generation(generation)
    set('generation', generation)
    if skipped then call('HDEL', r, 'skipped') end
    if finished_at and not previous then -- it is done once more: until that is over, statuses tell what was
      set('previous_progress', number(planned) .. ' ' .. number(done) .. ' ' .. number(reached))
      if not repeat_after then set('alone', 1) end
    elseif finished_at then call('HDEL', r, 'alone')
    end
    if planned then
      for _, field in ipairs({'planned', 'done', 'reached', 'fully_planned'}) do set(field, 0) end
      call('UNLINK', r .. ':chunks')
      call('HDEL', r, 'sent')
    end
    planned, sent = 0, 0
  end
  if not audience_read_at then set('audience_read_at', unfollows) end
  set('attempts', attempts + 1)
  call('HSET', r, unpack(sets))
  if now - number(created) >= rolling then feeds = '' end
  out[i] = {id, op, generation, planned, attempts + 1, body or '', sent, feeds or '', not whole_plan and waiting_queue or '', tried + 1, deaths, audience_read_at or ''}
  if trace then out[i][13] = trace end
end
call('DEL', wakeup_id, taken)
if #claims > 0 then
  call('HSET', taken, unpack(mine))
  call('EXPIRE', taken, math.ceil(lease / 1000))
end
keep_clock()
local wake = count > capacity and call('SET', wakeup_id, 1, 'NX', 'PX', stays)
return {held, wake and 1 or 0, out, damaged}
