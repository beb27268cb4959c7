-- ARGV: the hash of a number, its entries before (or empty) and after, the number and its hash, and if a tool recorded the
-- new entry (else empty): its instant, since when the entries of tools count, and how many there may be. Returns 0 if the
-- entries are not as before, 2 if the tools have recorded too many.
local hash, before, after, number, recorded = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if (redis.call('HGET', P .. 'opt_out', hash) or '') ~= before then return 0 end
if recorded ~= '' then
  redis.call('ZREMRANGEBYSCORE', P .. 'opt_out_by_tool', '-inf', ARGV[6])
  if redis.call('ZCARD', P .. 'opt_out_by_tool') >= tonumber(ARGV[7]) then return 2 end
  redis.call('ZADD', P .. 'opt_out_by_tool', recorded, hash .. ':' .. recorded)
end
redis.call('HSET', P .. 'opt_out', hash, after)
redis.call('ZADD', P .. 'opt_out_numbers', 0, number)
return 1
