-- ARGV: id, batch, fingerprint, key (or empty), created, erase, the newest batch with this list and the batch of this key
-- when the caller looked (or empty), then each row and its record. Returns 0 if another batch was written meanwhile.
local id, fingerprint, key, created = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local newest = redis.call('ZREVRANGE', P .. 'batch_fp:' .. fingerprint, 0, 0)[1] or ''
if newest ~= ARGV[7] then return 0 end
if key ~= '' then
  if (redis.call('GET', P .. 'batch_key:' .. key) or '') ~= ARGV[8] then return 0 end
  redis.call('SET', P .. 'batch_key:' .. key, id)
end
write_batch(id, ARGV[2], ARGV[6])
redis.call('ZADD', P .. 'batches', created, id)
redis.call('ZADD', P .. 'batch_fp:' .. fingerprint, created, id)
for index = 9, #ARGV, 2 do write_row(id, ARGV[index], ARGV[index + 1]) end
return 1
