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

-- How many of a set are younger than the window, and when there will be fewer than max (-1: unknown or not full).
local function count_window(name, now, window, max)
  local count = redis.call('ZCOUNT', P .. name, '(' .. integer(now - window), '+inf')
  local frees_at = -1
  if max > 0 and count >= max then
    frees_at = redis.call('ZREVRANGE', P .. name, max - 1, max - 1, 'WITHSCORES')[2] + window
  end
  return count, frees_at
end

-- The spending of the last day, and when a hold fits under the limit (-1: now, never or no limit).
local function sum_spending(name, now, hold, max)
  local spending = redis.call('ZRANGEBYSCORE', P .. name, '(' .. integer(now - DAY), '+inf', 'WITHSCORES')
  local spent, amounts = 0, {}
  for index = 1, #spending, 2 do
    amounts[index] = tonumber(redis.call('HGET', P .. 'amount', spending[index])) or 0
    spent = spent + amounts[index]
  end
  local excess = max >= 0 and spent + hold - max or 0
  local freed = 0
  for index = 1, excess > 0 and #spending or 0, 2 do
    freed = freed + amounts[index]
    if freed >= excess then return spent, spending[index + 1] + DAY, true end
  end
  return spent, -1, excess > 0
end

-- The usage of the account or of one caller as nine numbers, and whether a limit is reached.
-- limits: per_hour, per_day, concurrent, spend_per_day; -1 is none.
local function measure_scope(scope, kind, now, hold, limits)
  local hour, hour_frees = count_window(scope .. 'calls', now, HOUR, limits[1])
  local day, day_frees = count_window(scope .. 'calls', now, DAY, limits[2])
  local running = redis.call('ZCOUNT', P .. scope .. 'running', '(' .. integer(now), '+inf')
  local unknown = redis.call('ZCOUNT', P .. scope .. 'unknown', '(' .. integer(now), '+inf')
  local running_frees = -1
  if limits[3] > 0 and running >= limits[3] and unknown > 0 then
    local name, skipped = P .. scope .. 'running', running - limits[3]
    running_frees = redis.call('ZRANGEBYSCORE', name, '(' .. integer(now), '+inf', 'WITHSCORES', 'LIMIT', skipped, 1)[2]
  end
  local spent, spend_frees, is_reached = sum_spending(scope .. 'spend', now, hold, limits[4])
  local function is_full(count, max) return kind == 'call' and max >= 0 and count >= max end
  is_reached = is_reached or is_full(hour, limits[1]) or is_full(day, limits[2]) or is_full(running, limits[3])
  return { hour, hour_frees, day, day_frees, running, unknown, running_frees, spent, spend_frees }, is_reached
end

-- limits: those of the account, of each caller, to one destination in an hour and in a day, and purchases in a day.
-- Returns the usage as 24 numbers, and whether a limit is reached.
local function measure_usage(kind, caller, hash, now, hold, limits)
  local account_limits = { limits[1], limits[2], limits[3], limits[4] }
  local caller_limits = { limits[5], limits[6], limits[7], limits[8] }
  local numbers, is_reached = measure_scope('', kind, now, hold, account_limits)
  local of_caller, is_caller_reached = { 0, -1, 0, -1, 0, 0, -1, 0, -1 }, false
  -- Usually no limit of a caller is set.
  if math.max(unpack(caller_limits)) >= 0 then
    of_caller, is_caller_reached = measure_scope(caller_scope(caller), kind, now, hold, caller_limits)
  end
  for _, number in ipairs(of_caller) do numbers[#numbers + 1] = number end
  for index, window in ipairs({ HOUR, DAY }) do
    local count, frees_at, max = 0, -1, limits[8 + index]
    if hash ~= '' then count, frees_at = count_window('to:' .. hash, now, window, max) end
    numbers[#numbers + 1] = count
    numbers[#numbers + 1] = frees_at
    is_reached = is_reached or (kind == 'call' and max >= 0 and count >= max)
  end
  local bought, bought_frees = count_window('purchases', now, DAY, limits[11])
  numbers[#numbers + 1] = bought
  numbers[#numbers + 1] = bought_frees
  is_reached = is_reached or (kind == 'purchase' and limits[11] >= 0 and bought >= limits[11])
  for index, number in ipairs(numbers) do numbers[index] = integer(tonumber(number)) end
  return numbers, is_reached or is_caller_reached
end

-- The eleven limits from ARGV, the first of which is at this index.
local function read_limits(first)
  local limits = {}
  for index = 0, 10 do limits[index + 1] = tonumber(ARGV[first + index]) end
  return limits
end
