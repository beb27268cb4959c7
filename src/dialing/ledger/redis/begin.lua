-- ARGV: id, record, fingerprint, key, destination, pair, caller, kind, now, key_since, repeats_since, allow_repeat, hold,
-- limits...
local id, raw, fingerprint, key, destination, pair = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local caller, kind = ARGV[7], ARGV[8]
local now, key_since, repeats_since = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local earlier = find_earlier(fingerprint, key, key_since, repeats_since, ARGV[12], pair)
if earlier then return earlier end

local numbers, is_reached = measure_usage(kind, caller, destination, now, tonumber(ARGV[13]), read_limits(14))
if is_reached then return { 'limit', unpack(numbers) } end

store(id, raw)
if key ~= '' then redis.call('SET', P .. 'key:' .. key, id) end
return { 'begun', raw }
