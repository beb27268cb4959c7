-- ARGV: before, most. Forgets settled records older than `before`; answers with how many.
local forgotten = 0
local old = redis.call('ZRANGEBYSCORE', P .. 'all', '-inf', '(' .. ARGV[1], 'LIMIT', 0, 2 * tonumber(ARGV[2]))
for _, id in ipairs(old) do
  if forgotten >= tonumber(ARGV[2]) then break end
  local _, stored = get(id)
  if not stored or not is_open(stored.record) then
    for _, name in ipairs({ 'all', 'calls', 'ringing', 'leased', 'open', 'spend' }) do
      redis.call('ZREM', P .. name, id)
    end
    redis.call('HDEL', P .. 'amount', id)
    redis.call('DEL', P .. 'd:' .. id)
    if stored then
      local record = stored.record
      redis.call('ZREM', P .. 'fp:' .. record.fingerprint, id)
      if type(record.callee) == 'table' then
        redis.call('ZREM', P .. 'to:' .. record.callee.hash, id)
        redis.call('ZREM', P .. 'known:' .. record.callee.hash, id)
      end
      if is_placed(record) then redis.call('DEL', P .. 'id:' .. record.id) end
      if type(record.idempotency_key) == 'string' then
        local key = P .. 'key:' .. record.idempotency_key
        if redis.call('GET', key) == id then redis.call('DEL', key) end
      end
    end
    forgotten = forgotten + 1
  end
end
return forgotten
