-- Says that a session is in use. KEYS: the session, the index of its scope. ARGV: id, idle ms.
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
