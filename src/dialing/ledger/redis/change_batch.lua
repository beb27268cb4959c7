-- ARGV: id, the batch before and after, erase (or empty), then for each row: its number, the row before and after, the name
-- of where its number waits, and what that holds before and after (or empty). Returns 0 if anything is not as before.
local id = ARGV[1]
if redis.call('GET', P .. 'batch:' .. id) ~= ARGV[2] then return 0 end
for index = 5, #ARGV, 6 do
  if redis.call('HGET', P .. 'rows:' .. id, ARGV[index]) ~= ARGV[index + 1] then return 0 end
  if (redis.call('GET', P .. ARGV[index + 3]) or '') ~= ARGV[index + 4] then return 0 end
end
if ARGV[3] ~= ARGV[2] then redis.call('SET', P .. 'batch:' .. id, ARGV[3]) end
if ARGV[4] == '' then
  redis.call('ZREM', P .. 'batch_erase', id)
else
  redis.call('ZADD', P .. 'batch_erase', ARGV[4], id)
end
for index = 5, #ARGV, 6 do
  local before, after, waits = ARGV[index + 4], ARGV[index + 5], P .. ARGV[index + 3]
  if ARGV[index + 2] ~= ARGV[index + 1] then redis.call('HSET', P .. 'rows:' .. id, ARGV[index], ARGV[index + 2]) end
  if after ~= before and after ~= '' then redis.call('SET', waits, after) end
  if after ~= before and after == '' then redis.call('DEL', waits) end
end
return 1
