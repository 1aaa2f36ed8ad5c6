-- KEYS the lists of a queue
-- returns how many messages were dropped
local count = 0
for _, list in ipairs(KEYS) do
  must_be(list, 'list')
  count = count + redis.call('LLEN', list)
end
redis.call('UNLINK', unpack(KEYS))
return count
