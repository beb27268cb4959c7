-- Keeps a session. KEYS: the session, the index of its scope (id → last use in ms), the prefix of the
-- scope's sessions. ARGV: id, state, idle ms, the most sessions of the scope. Answers with the ids that
-- had to make room: those that nobody used for the longest time.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local idle, most = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - idle))
-- One that is kept again takes no more room than before.
redis.call('ZREM', KEYS[2], ARGV[1])
local ended = {}
while redis.call('ZCARD', KEYS[2]) >= most and #ended < 100 do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  redis.call('ZREM', KEYS[2], oldest)
  redis.call('DEL', KEYS[3] .. oldest)
  ended[#ended + 1] = oldest
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return ended
