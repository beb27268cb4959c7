-- ARGV: id, record, fingerprint, key, callee, kind, now, key_since, repeats_since, allow_repeat, hold, limits...
local id, raw, fingerprint, key, callee, kind = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now, key_since, repeats_since = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local limits = {}
for at = 12, 18 do limits[at - 11] = tonumber(ARGV[at]) end

local stands = earlier(fingerprint, key, key_since, repeats_since, ARGV[10])
if stands then return stands end

local numbers, reached = usage(kind, callee, now, tonumber(ARGV[11]), limits)
if reached then return { 'limit', unpack(numbers) } end

store(id, raw)
if key ~= '' then redis.call('SET', P .. 'key:' .. key, id) end
return { 'begun', raw }
