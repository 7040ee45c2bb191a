-- Change what is kept of one activity; storage/activity_state.py says what a value is, and does the same in memory.
-- KEYS: the activity (STRING)
-- ARGV: change, body or '', seconds to keep it once it is removed, seconds to keep it while it is known by direct notifications alone,
--   seconds to keep it otherwise or 0 for ever, former bodies to keep, SHA-1 of the value that it must have or ''
-- Returns: {1 if the change was made (or was made before), else 0; after a removal the value, else ''}
local CHANGE, BODY, REMOVED_FOR, NOTICED_FOR, KEPT_FOR, FORMERS, EXPECTED = 1, 2, 3, 4, 5, 6, 7
local call, key, change, body = redis.call, KEYS[1], ARGV[CHANGE], ARGV[BODY]
-- What is new is kept as it is, as is nearly everything.
if change == 'add' and ARGV[EXPECTED] == '' and body ~= '' and string.byte(body) ~= 193 then
  if ARGV[KEPT_FOR] == '0' then
    if call('SET', key, body, 'NX') then return {1, ''} end
  elseif call('SET', key, body, 'NX', 'EX', ARGV[KEPT_FOR]) then return {1, ''} end
end
local was = call('GET', key) or ''
if ARGV[EXPECTED] ~= '' and redis.sha1hex(was) ~= ARGV[EXPECTED] then return {0, ''} end
if change == 'forget' then
  local gone = string.byte(was) == 193 and string.upper(string.sub(was, 2, 2)) == 'R'
  if gone then call('UNLINK', key) end
  return {gone and 1 or 0, ''}
end
local function bodies_of(text)
  local found, at = {}, 1
  while at + 3 <= #text do
    local size = struct.unpack('>I4', text, at)
    found[#found + 1] = string.sub(text, at + 4, at + 3 + size)
    at = at + 4 + size
  end
  return at == #text + 1 and #found > 0 and found
end
local kind, notified, bodies = '', false, {}
if was ~= '' then
  local letter = string.byte(was) == 193 and string.sub(was, 2, 2) or ''
  local held = letter ~= '' and string.find('LINRlinr', letter, 1, true) and bodies_of(string.sub(was, 3))
  if held then kind, notified, bodies = string.upper(letter), letter ~= string.upper(letter), held
  else kind, bodies = 'L', {was} end
elseif body == '' or change == 'update' then return {0, ''}
else bodies = {body} end
if kind == 'R' and (change == 'add' or change == 'import' or change == 'notify') then
  local kept = {body}
  for i = 1, #bodies do
    if bodies[i] ~= body and #kept <= tonumber(ARGV[FORMERS]) then kept[#kept + 1] = bodies[i] end
  end
  bodies = kept
end
if change == 'add' then kind = 'L'
elseif change == 'import' then kind = kind == 'L' and 'L' or 'I'
elseif change == 'notify' or change == 'unnotify' then
  if kind == '' or kind == 'R' then kind = change == 'notify' and 'N' or 'R' end
  notified = true
elseif change == 'update' then
  if kind == 'R' then return {0, ''} end
  bodies[1] = body
else kind = 'R' end
local value = bodies[1]
if kind ~= 'L' or notified or #bodies > 1 or string.byte(value) == 193 then
  value = '\193' .. (notified and string.lower(kind) or kind)
  for i = 1, #bodies do value = value .. struct.pack('>I4', #bodies[i]) .. bodies[i] end
end
local seconds = kind == 'R' and ARGV[REMOVED_FOR] or kind == 'N' and ARGV[NOTICED_FOR] or ARGV[KEPT_FOR]
if seconds ~= '0' then call('SET', key, value, 'EX', seconds)
elseif value ~= was then call('SET', key, value) end
return {1, change == 'remove' and value or ''}
