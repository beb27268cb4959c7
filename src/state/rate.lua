-- The generic cell rate algorithm (GCRA): KEYS[1] holds the time at which everything asked for so far
-- would have been done at the steady rate, in microseconds. ARGV: microseconds between two requests,
-- and how far ahead of now that time may be. Answers with how long to wait, or 0, and with how many more
-- there is room for at once.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
local at = tonumber(redis.call('GET', KEYS[1]) or now) or now
-- A clock that was set back must not lock anybody out.
if at < now or at > now + ahead then at = math.max(now, math.min(at, now + ahead)) end
local after = at + interval
if after - now > ahead then return {string.format('%.0f', after - now - ahead), '0'} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {'0', string.format('%.0f', math.floor((ahead - (after - now)) / interval))}
