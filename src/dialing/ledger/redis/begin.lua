-- ARGV: id, record, fingerprint, key, destination, pair, caller, kind, now, key_since, repeats_since, allow_repeat, hold,
-- limits as JSON, and for an attempt (else empty): its number, batch, the batch as it was read, row, the row before and
-- after, then each dispatch of the row and its record as it was read.
local id, raw, fingerprint, key, destination, pair = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local caller, kind = ARGV[7], ARGV[8]
local now, key_since, repeats_since = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local attempt, batch_id, row = ARGV[15], ARGV[16], ARGV[18]
if attempt ~= '' then
  local is_as_read = redis.call('GET', P .. 'batch:' .. batch_id) == ARGV[17]
    and redis.call('HGET', P .. 'rows:' .. batch_id, row) == ARGV[19]
    and redis.call('ZCARD', P .. 'row:' .. batch_id .. ':' .. row) == (#ARGV - 20) / 2
  for index = 21, #ARGV, 2 do
    is_as_read = is_as_read and redis.call('GET', P .. 'd:' .. ARGV[index]) == ARGV[index + 1]
  end
  if not is_as_read then return { 'changed' } end
end

if not may_call(destination, now) then return { 'opted_out' } end

local earlier = find_earlier(fingerprint, key, key_since, repeats_since, ARGV[12], pair, attempt)
if earlier then return earlier end

local limits = cjson.decode(ARGV[14])
local usage, is_reached = measure_usage(kind, caller, destination, now, tonumber(ARGV[13]), limits)
if is_reached then return { 'limit', cjson.encode(usage) } end

store(id, raw)
if key ~= '' then redis.call('SET', P .. 'key:' .. key, id) end
if attempt ~= '' then redis.call('HSET', P .. 'rows:' .. batch_id, row, ARGV[20]) end
return { 'begun', raw }
