-- ARGV: id, record, fingerprint, key, callee, kind, now, key_since, repeats_since, allow_repeat, hold, limits...
local id, raw, fingerprint, key, callee, kind = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now, key_since, repeats_since = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local limits = {}
for at = 12, 17 do limits[at - 11] = tonumber(ARGV[at]) end

if key ~= '' then
  local first = redis.call('GET', P .. 'key:' .. key)
  local found, stored
  if first then found, stored = get(first) end
  if found and stored.intent_ms > key_since then
    if stored.record.fingerprint ~= fingerprint then return { 'conflict', found } end
    if stored.record.state ~= 'not_placed' then return { 'same', found } end
  end
end

local repeated
for _, other in ipairs(redis.call('ZREVRANGE', P .. 'fp:' .. fingerprint, 0, 31)) do
  local found, stored = get(other)
  if found and is_open(stored.record) then return { 'same', found } end
  if found and not repeated and ARGV[10] == '0' and stored.intent_ms > repeats_since then repeated = found end
end
if repeated then return { 'same', repeated } end

local numbers, reached = usage(kind, callee, now, tonumber(ARGV[11]), limits)
if reached then return { 'limit', unpack(numbers) } end

store(id, raw)
if key ~= '' then redis.call('SET', P .. 'key:' .. key, id) end
return { 'begun', raw }
