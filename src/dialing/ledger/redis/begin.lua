-- ARGV: id, record, key_since, repeats_since, allow_repeat, limits as JSON, and for an attempt: the batch as it was read, the
-- row before and after, then each dispatch of the row and its record as it was read.
local id, raw = ARGV[1], ARGV[2]
local stored = cjson.decode(raw)
local record, now = stored.record, stored.created_ms
-- What is absent is `null` in the record, and empty here.
local function text(value) return type(value) == 'string' and value or '' end
local key, destination = text(record.idempotency_key), type(record.callee) == 'table' and record.callee.hash or ''
local pair = destination ~= '' and text(record.agent_id) ~= '' and destination .. ':' .. record.agent_id or ''

local attempt, rows, row = record.attempt
if attempt then
  rows, row = P .. 'rows:' .. attempt.batch_id, integer(attempt.row)
  local is_as_read = redis.call('GET', P .. 'batch:' .. attempt.batch_id) == ARGV[7]
    and redis.call('HGET', rows, row) == ARGV[8]
    and redis.call('ZCARD', P .. 'row:' .. attempt.batch_id .. ':' .. row) == (#ARGV - 9) / 2
  for index = 10, #ARGV, 2 do
    is_as_read = is_as_read and redis.call('GET', P .. 'd:' .. ARGV[index]) == ARGV[index + 1]
  end
  if not is_as_read then return { 'changed' } end
end

if not may_call(destination, now) then return { 'opted_out' } end

local number = attempt and integer(attempt.attempt) or ''
local key_since, repeats_since = tonumber(ARGV[3]), tonumber(ARGV[4])
local earlier = find_earlier(record.fingerprint, key, key_since, repeats_since, ARGV[5], pair, number)
if earlier then return earlier end

local hold, limits = record.hold_milli_cents, cjson.decode(ARGV[6])
local usage, is_reached = measure_usage(record.kind, record.caller, destination, now, hold, limits)
if is_reached then return { 'limit', cjson.encode(usage) } end

store(id, raw)
if key ~= '' then redis.call('SET', P .. 'key:' .. key, id) end
if attempt then redis.call('HSET', rows, row, ARGV[9]) end
return { 'begun', raw }
