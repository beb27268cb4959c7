-- Batches and their rows, for the scripts that follow. A batch is stored as {"state", "generation", "lease_ms",
-- "end_by_ms", "agent_id", "record"}, a row as {"state", "attempts", "callee", "record"}; a record is never encoded again here.

local function find_batch(id)
  local raw = redis.call('GET', P .. 'batch:' .. id)
  if raw then return cjson.decode(raw), raw end
end

local UNFINISHED = { running = true, paused = true, interrupted = true }

-- The unfinished batch in which a number waits, other than `except`.
local function find_waiting(hash, except)
  local id = redis.call('GET', P .. 'waits:' .. hash)
  if not id or id == except then return nil end
  local batch = find_batch(id)
  if batch and UNFINISHED[batch.state] then return id, batch end
end

-- Writes a row, and where its number waits.
local function write_row(batch_id, row, raw)
  local stored = cjson.decode(raw)
  redis.call('HSET', P .. 'rows:' .. batch_id, row, raw)
  local key = P .. 'waits:' .. stored.callee
  if stored.state ~= 'waiting' and stored.state ~= 'calling' and redis.call('GET', key) == batch_id then
    redis.call('DEL', key)
  end
end

local function write_batch(id, raw, erase_ms)
  redis.call('SET', P .. 'batch:' .. id, raw)
  if erase_ms == '' then
    redis.call('ZREM', P .. 'batch_erase', id)
  else
    redis.call('ZADD', P .. 'batch_erase', erase_ms, id)
  end
end

-- Why an attempt of a batch may not begin or be sent: 'batch' or 'window'; nil if it may.
local function check_attempt(batch_id, generation, machine_now, now)
  local batch = find_batch(batch_id)
  if not batch or batch.generation ~= generation or batch.lease_ms <= machine_now then return 'batch' end
  if batch.state ~= 'running' and batch.state ~= 'paused' then return 'batch' end
  if now >= batch.end_by_ms then return 'window' end
end
