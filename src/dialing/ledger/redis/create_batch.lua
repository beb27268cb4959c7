-- ARGV: id, batch, fingerprint, key (or empty), created, erase (or empty), how many batches with
-- this list were looked at and which they were, the batch of this key (or empty), then each row and its record. Returns 0 if
-- another batch was written meanwhile.
local id, fingerprint, key, created, erase = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local newest = redis.call('ZREVRANGE', P .. 'batch_fp:' .. fingerprint, 0, tonumber(ARGV[7]) - 1)
if table.concat(newest, ' ') ~= ARGV[8] then return 0 end
if key ~= '' then
  if (redis.call('GET', P .. 'batch_key:' .. key) or '') ~= ARGV[9] then return 0 end
  redis.call('SET', P .. 'batch_key:' .. key, id)
end
redis.call('SET', P .. 'batch:' .. id, ARGV[2])
redis.call('ZADD', P .. 'batches', created, id)
redis.call('ZADD', P .. 'batch_fp:' .. fingerprint, created, id)
if erase ~= '' then redis.call('ZADD', P .. 'batch_erase', erase, id) end
for index = 10, #ARGV, 2 do redis.call('HSET', P .. 'rows:' .. id, ARGV[index], ARGV[index + 1]) end
return 1
