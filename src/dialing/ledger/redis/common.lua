-- Shared by all scripts. KEYS[1] is the tenant's prefix; every key begins with it and so lies in one
-- hash slot. A record is stored as {"created_ms", "lease_expires_ms", "record"} and never re-encoded here.
local P = KEYS[1]

local function get(id)
  local raw = redis.call('GET', P .. 'd:' .. id)
  if not raw then return nil end
  return raw, cjson.decode(raw)
end

local function is_open(record) return record.state == 'intent' or record.state == 'unknown' end
local function is_placed(record) return record.state == 'placed' or record.state == 'finished' end

-- Stores a record and puts it into the sets to which its state belongs.
local function store(id, raw)
  local stored = cjson.decode(raw)
  local record = stored.record
  local call, alive = record.kind == 'call', record.state ~= 'not_placed'
  local function put(name, wanted, score)
    if wanted then
      redis.call('ZADD', P .. name, score, id)
    else
      redis.call('ZREM', P .. name, id)
    end
  end
  local at, lease = string.format('%.0f', stored.created_ms), string.format('%.0f', stored.lease_expires_ms)
  redis.call('SET', P .. 'd:' .. id, raw)
  put('all', true, at)
  put('calls', call and alive, at)
  put('ringing', call and (record.state == 'placed' or record.state == 'unknown'), at)
  put('leased', call and record.state == 'intent', lease)
  put('open', is_open(record), at)
  put('purchases', alive and not call, at)
  put('spend', alive, at)
  put('fp:' .. record.fingerprint, alive, at)
  if type(record.callee) == 'table' then
    put('to:' .. record.callee.hash, call and alive, at)
    put('known:' .. record.callee.hash, is_placed(record), at)
  end
  local amount = type(record.cost_milli_cents) == 'number' and record.cost_milli_cents or record.hold_milli_cents
  redis.call('HSET', P .. 'amount', id, string.format('%.0f', amount))
  if is_placed(record) then redis.call('SET', P .. 'id:' .. record.id, id) end
end

-- The earlier one that stands in the way, if any. allow_repeat is '0' or '1'.
local function earlier(fingerprint, key, key_since, repeats_since, allow_repeat)
  if key ~= '' then
    local first = redis.call('GET', P .. 'key:' .. key)
    local found, stored
    if first then found, stored = get(first) end
    if found and stored.created_ms > key_since then
      if stored.record.fingerprint ~= fingerprint then return { 'conflict', found } end
      if stored.record.state ~= 'not_placed' then return { 'same', found } end
    end
  end
  local repeated
  for _, other in ipairs(redis.call('ZREVRANGE', P .. 'fp:' .. fingerprint, 0, 31)) do
    local found, stored = get(other)
    if found and is_open(stored.record) then return { 'same', found } end
    if found and not repeated and allow_repeat == '0' and stored.created_ms > repeats_since then repeated = found end
  end
  if repeated then return { 'same', repeated } end
end

local HOUR, DAY, LONGEST_CALL = 3600000, 86400000, 7200000

-- How many of a set are younger than the window, and when there will be fewer than max (-1: no answer).
local function used(name, now, window, max)
  local count = redis.call('ZCOUNT', P .. name, '(' .. string.format('%.0f', now - window), '+inf')
  local frees_at = -1
  if max > 0 and count >= max then
    frees_at = redis.call('ZREVRANGE', P .. name, max - 1, max - 1, 'WITHSCORES')[2] + window
  end
  return count, frees_at
end

-- limits: per_hour, per_day, per_destination_per_hour, per_destination_per_day, at_once, spend, purchases_per_day; -1 is none.
-- Answers with the usage as thirteen numbers and whether a limit is reached.
local function usage(kind, hash, now, hold, limits)
  local hour, hour_frees = used('calls', now, HOUR, limits[1])
  local day, day_frees = used('calls', now, DAY, limits[2])
  local to_hour, to_hour_frees, to_day, to_day_frees = 0, -1, 0, -1
  if hash ~= '' then
    to_hour, to_hour_frees = used('to:' .. hash, now, HOUR, limits[3])
    to_day, to_day_frees = used('to:' .. hash, now, DAY, limits[4])
  end
  local at_once = redis.call('ZCOUNT', P .. 'ringing', '(' .. string.format('%.0f', now - LONGEST_CALL), '+inf')
    + redis.call('ZCOUNT', P .. 'leased', '(' .. string.format('%.0f', now), '+inf')
  local spent, spend_frees = 0, -1
  local spending = redis.call('ZRANGEBYSCORE', P .. 'spend', '(' .. string.format('%.0f', now - DAY), '+inf', 'WITHSCORES')
  local amounts = {}
  for at = 1, #spending, 2 do
    amounts[at] = tonumber(redis.call('HGET', P .. 'amount', spending[at])) or 0
    spent = spent + amounts[at]
  end
  local bought, bought_frees = used('purchases', now, DAY, limits[7])
  local excess = limits[6] >= 0 and spent + hold - limits[6] or 0
  if excess > 0 then
    local freed = 0
    for at = 1, #spending, 2 do
      freed = freed + amounts[at]
      if freed >= excess then
        spend_frees = spending[at + 1] + DAY
        break
      end
    end
  end
  local function full(count, limit) return limit >= 0 and count >= limit end
  local reached = excess > 0
  if kind == 'call' then
    reached = reached or full(hour, limits[1]) or full(day, limits[2]) or full(to_hour, limits[3])
      or full(to_day, limits[4]) or full(at_once, limits[5])
  else
    reached = reached or full(bought, limits[7])
  end
  local numbers = { hour, hour_frees, day, day_frees, to_hour, to_hour_frees, to_day, to_day_frees, at_once, spent, spend_frees,
    bought, bought_frees }
  for at, number in ipairs(numbers) do numbers[at] = string.format('%.0f', number) end
  return numbers, reached
end
