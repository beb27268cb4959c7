-- ARGV: id, the record before and after, batch (or empty), generation, the machine's time, the dialing clock's time.
if ARGV[4] ~= '' then
  local stop = check_attempt(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
  if stop then return stop end
end
if redis.call('GET', P .. 'd:' .. ARGV[1]) ~= ARGV[2] then return 'changed' end
store(ARGV[1], ARGV[3])
return 'renewed'
