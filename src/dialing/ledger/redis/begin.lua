-- ARGV: id, record, fingerprint, key, destination, pair, caller, kind, now, key_since, repeats_since, allow_repeat, hold,
-- limits, attempt, batch, row, generation, the row as it is written, the machine's time.
local id, raw, fingerprint, key, destination, pair = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local caller, kind = ARGV[7], ARGV[8]
local now, key_since, repeats_since = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local attempt, batch_id, row = ARGV[25], ARGV[26], ARGV[27]
if attempt ~= '' then
  local stop = check_attempt(batch_id, tonumber(ARGV[28]), tonumber(ARGV[30]), now)
  if stop then return { 'stopped', stop } end
  local waiting = redis.call('HGET', P .. 'rows:' .. batch_id, row)
  waiting = waiting and cjson.decode(waiting)
  if not waiting or waiting.state ~= 'waiting' or waiting.attempts + 1 ~= tonumber(attempt) then
    return { 'stopped', 'attempt' }
  end
end

local earlier = find_earlier(fingerprint, key, key_since, repeats_since, ARGV[12], pair, attempt)
if earlier then return earlier end

local numbers, is_reached = measure_usage(kind, caller, destination, now, tonumber(ARGV[13]), read_limits(14))
if is_reached then return { 'limit', unpack(numbers) } end

store(id, raw)
if key ~= '' then redis.call('SET', P .. 'key:' .. key, id) end
if attempt ~= '' then write_row(batch_id, row, ARGV[29]) end
return { 'begun', raw }
