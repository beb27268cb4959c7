-- ARGV: id, the record before and after, now, and for an attempt: the batch as it was read. Returns 0 if the record or the
-- batch has changed, 2 if the number is on the do-not-call list.
local record = cjson.decode(ARGV[3]).record
local callee, attempt = record.callee, record.attempt
if not may_call(type(callee) == 'table' and callee.hash or '', tonumber(ARGV[4])) then return 2 end
if attempt and redis.call('GET', P .. 'batch:' .. attempt.batch_id) ~= ARGV[5] then return 0 end
if redis.call('GET', P .. 'd:' .. ARGV[1]) ~= ARGV[2] then return 0 end
store(ARGV[1], ARGV[3])
return 1
