-- The generic cell rate algorithm (GCRA). KEYS[1] holds the time, in microseconds, at which all requests so far
-- would be done at the steady rate. ARGV: microseconds between two requests, and how far that time may lie ahead
-- of now. Returns how long to wait, or 0, and how many more requests would be allowed immediately.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, max_ahead = tonumber(ARGV[1]), tonumber(ARGV[2])
local done = tonumber(redis.call('GET', KEYS[1]) or now) or now
-- A clock that was set back must not lock a caller out.
if done < now or done > now + max_ahead then done = math.max(now, math.min(done, now + max_ahead)) end
local next = done + interval
if next - now > max_ahead then return {string.format('%.0f', next - now - max_ahead), '0'} end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000) + 1)
return {'0', string.format('%.0f', math.floor((max_ahead - (next - now)) / interval))}
