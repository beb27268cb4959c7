-- ARGV: id, the record before and after, batch (or empty), the batch that the attempt was checked against. Returns 0 if the
-- record or the batch has changed.
if ARGV[4] ~= '' and redis.call('GET', P .. 'batch:' .. ARGV[4]) ~= ARGV[5] then return 0 end
if redis.call('GET', P .. 'd:' .. ARGV[1]) ~= ARGV[2] then return 0 end
store(ARGV[1], ARGV[3])
return 1
