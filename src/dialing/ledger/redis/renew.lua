-- ARGV: id, the record before and after, batch (or empty), the batch that the attempt was checked against, the destination
-- (or empty), now. Returns 0 if the record or the batch has changed, 2 if the number is on the do-not-call list.
if not may_call(ARGV[6], tonumber(ARGV[7])) then return 2 end
if ARGV[4] ~= '' and redis.call('GET', P .. 'batch:' .. ARGV[4]) ~= ARGV[5] then return 0 end
if redis.call('GET', P .. 'd:' .. ARGV[1]) ~= ARGV[2] then return 0 end
store(ARGV[1], ARGV[3])
return 1
