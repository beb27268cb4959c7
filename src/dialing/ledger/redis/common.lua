-- Dispatches, for the scripts that follow.

local function get(id)
  local raw = redis.call('GET', P .. 'd:' .. id)
  if not raw then return nil end
  return raw, cjson.decode(raw)
end

local function is_open(record) return record.state == 'intent' or record.state == 'unknown' end
local function is_placed(record) return record.state == 'placed' or record.state == 'finished' end
local function integer(number) return string.format('%.0f', number) end

-- Whether a number may be called: it is not on the do-not-call list. A purchase has no number.
local function may_call(hash, now)
  local raw = hash ~= '' and redis.call('HGET', P .. 'opt_out', hash)
  if not raw then return true end
  local holds_until = cjson.decode(raw).holds_until_ms
  return type(holds_until) ~= 'number' or holds_until <= now
end

-- The prefix of the sets of one caller; those of the whole account have no prefix.
local function caller_scope(caller) return 'caller:' .. caller .. ':' end

-- Stores a record and puts it into the sets to which its state belongs.
local function store(id, raw)
  local stored = cjson.decode(raw)
  local record = stored.record
  local is_call, may_exist = record.kind == 'call', record.state ~= 'not_placed'
  local function put(name, wanted, score)
    if wanted then
      redis.call('ZADD', P .. name, score, id)
    else
      redis.call('ZREM', P .. name, id)
    end
  end
  local created, until_ms = integer(stored.created_ms), stored.in_progress_until_ms
  redis.call('SET', P .. 'd:' .. id, raw)
  put('all', true, created)
  put('open', is_open(record), created)
  put('purchases', may_exist and not is_call, created)
  put('fp:' .. record.fingerprint, may_exist, created)
  for _, scope in ipairs({ '', caller_scope(record.caller) }) do
    local is_running = type(until_ms) == 'number'
    put(scope .. 'calls', is_call and may_exist, created)
    put(scope .. 'spend', may_exist, created)
    put(scope .. 'running', is_running, is_running and integer(until_ms))
    put(scope .. 'unknown', is_running and record.state == 'unknown', is_running and integer(until_ms))
  end
  if type(record.callee) == 'table' then
    local hash = record.callee.hash
    put('to:' .. hash, is_call and may_exist, created)
    put('open_to:' .. hash, is_call and is_open(record), created)
    put('known:' .. hash, is_placed(record), created)
    if type(record.agent_id) == 'string' then
      put('pair:' .. hash .. ':' .. record.agent_id, is_call and may_exist, created)
    end
  end
  if type(record.attempt) == 'table' then
    put('row:' .. record.attempt.batch_id .. ':' .. integer(record.attempt.row), true, created)
  end
  local amount = type(record.cost_milli_cents) == 'number' and record.cost_milli_cents or record.hold_milli_cents
  redis.call('HSET', P .. 'amount', id, integer(amount))
  if is_placed(record) then redis.call('SET', P .. 'id:' .. record.id, id) end
end

-- A call by the same agent to the same number, or the unfinished batch of the agent in which the number waits.
local function find_similar(repeats_since, pair, is_attempt)
  local newest = redis.call('ZREVRANGEBYSCORE', P .. 'pair:' .. pair, '+inf', '(' .. integer(repeats_since), 'LIMIT', 0, 1)
  if newest[1] then
    local found = get(newest[1])
    if found then return { 'similar', found } end
  end
  if is_attempt then return nil end
  local hash, agent = string.match(pair, '^([^:]*):(.*)$')
  local batch, its_agent = string.match(redis.call('GET', P .. 'waits:' .. hash) or '', '^([^:]*):(.*)$')
  if batch and its_agent == agent then return { 'waits', batch } end
end

-- The open call to the number of an attempt, if there is one.
local function find_open_call(pair)
  local hash = string.match(pair, '^([^:]*):')
  local newest = redis.call('ZREVRANGE', P .. 'open_to:' .. hash, 0, 0)
  local found = newest[1] and get(newest[1])
  if found then return { 'same', found } end
end

-- The earlier dispatch that blocks a new one, if there is one. allow_repeat is '0' or '1'; pair is the hash of the
-- destination and the agent, or empty; attempt is the number of an attempt of a batch, or empty.
local function find_earlier(fingerprint, key, key_since, repeats_since, allow_repeat, pair, attempt)
  if attempt ~= '' then
    local open = find_open_call(pair)
    if open or attempt ~= '1' or allow_repeat ~= '0' then return open end
    return find_similar(repeats_since, pair, true)
  end
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
  if pair ~= '' and allow_repeat == '0' then return find_similar(repeats_since, pair, false) end
end

local HOUR, DAY = 3600000, 86400000

local function is_full(count, max) return max and count >= max end

-- cjson writes a number of more digits with an exponent.
local MAX_INTEGER = 99999999999999

-- How many of a set are younger than the window, and when there will be fewer than max (nil: unknown or not full).
local function count_window(name, now, window, max)
  local usage = { count = redis.call('ZCOUNT', P .. name, '(' .. integer(now - window), '+inf') }
  if max and max > 0 and usage.count >= max then
    usage.frees_at = redis.call('ZREVRANGE', P .. name, max - 1, max - 1, 'WITHSCORES')[2] + window
  end
  return usage
end

-- The spending of the last day, when a hold fits under the limit (nil: now, never or no limit), and whether it does not
-- fit now.
local function sum_spending(name, now, hold, max)
  local spending = redis.call('ZRANGEBYSCORE', P .. name, '(' .. integer(now - DAY), '+inf', 'WITHSCORES')
  local spent, amounts = 0, {}
  for index = 1, #spending, 2 do
    amounts[index] = tonumber(redis.call('HGET', P .. 'amount', spending[index])) or 0
    spent = spent + amounts[index]
  end
  local excess = max and spent + hold - max or 0
  local freed, shown = 0, math.min(spent, MAX_INTEGER)
  for index = 1, excess > 0 and #spending or 0, 2 do
    freed = freed + amounts[index]
    if freed >= excess then return shown, spending[index + 1] + DAY, true end
  end
  return shown, nil, excess > 0
end

-- The usage of the account or of one caller, and whether a limit is reached.
local function measure_scope(scope, kind, now, hold, limits)
  local usage = {
    hour = count_window(scope .. 'calls', now, HOUR, limits.per_hour),
    day = count_window(scope .. 'calls', now, DAY, limits.per_day),
    concurrent = redis.call('ZCOUNT', P .. scope .. 'running', '(' .. integer(now), '+inf'),
    unknown = redis.call('ZCOUNT', P .. scope .. 'unknown', '(' .. integer(now), '+inf'),
  }
  local running, max = usage.concurrent, limits.concurrent
  if max and max > 0 and running >= max and usage.unknown > 0 then
    local ends = redis.call('ZRANGEBYSCORE', P .. scope .. 'running', '(' .. integer(now), '+inf', 'WITHSCORES',
      'LIMIT', running - max, 1)
    usage.concurrent_frees_at = tonumber(ends[2])
  end
  local is_reached
  usage.spent, usage.spend_frees_at, is_reached = sum_spending(scope .. 'spend', now, hold, limits.spend_per_day)
  return usage, is_reached or kind == 'call' and (is_full(usage.hour.count, limits.per_hour)
    or is_full(usage.day.count, limits.per_day) or is_full(running, limits.concurrent))
end

-- The usage of the account, and whether a limit is reached. Both are as the program has them: a limit that is not set is
-- nil.
local function measure_usage(kind, caller, hash, now, hold, limits)
  local usage, is_reached = measure_scope('', kind, now, hold, limits)
  -- Usually no limit of a caller is set.
  if next(limits.per_caller) then
    local is_caller_reached
    usage.caller, is_caller_reached = measure_scope(caller_scope(caller), kind, now, hold, limits.per_caller)
    is_reached = is_reached or is_caller_reached
  end
  if hash ~= '' then
    local per_hour, per_day = limits.per_destination_per_hour, limits.per_destination_per_day
    usage.destination_hour = count_window('to:' .. hash, now, HOUR, per_hour)
    usage.destination_day = count_window('to:' .. hash, now, DAY, per_day)
    is_reached = is_reached or kind == 'call' and (is_full(usage.destination_hour.count, per_hour)
      or is_full(usage.destination_day.count, per_day))
  end
  usage.purchases = count_window('purchases', now, DAY, limits.purchases_per_day)
  is_reached = is_reached or kind == 'purchase' and is_full(usage.purchases.count, limits.purchases_per_day)
  return usage, is_reached
end
