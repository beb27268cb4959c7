-- ARGV: id, the batch before and after, erase (or empty), the numbers that wait from now on as one JSON list of hashes, then
-- each refused row and its record. Returns 0 if the batch changed meanwhile, or if one of the numbers waits in another.
local id = ARGV[1]
if redis.call('GET', P .. 'batch:' .. id) ~= ARGV[2] then return 0 end
local waiting = cjson.decode(ARGV[5])
for _, hash in ipairs(waiting) do
  if find_waiting(hash, id) then return 0 end
end
write_batch(id, ARGV[3], ARGV[4])
for _, hash in ipairs(waiting) do redis.call('SET', P .. 'waits:' .. hash, id) end
for index = 6, #ARGV, 2 do write_row(id, ARGV[index], ARGV[index + 1]) end
return 1
