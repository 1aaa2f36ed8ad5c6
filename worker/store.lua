-- Remember a result, unless the call behind what is there began later; then let go of the lease, if it is ours.
--
-- KEYS entry, lease
-- ARGV value, milliseconds to live, when its call began (Unix seconds), token
-- returns 1 where it was stored, 0 where there is a newer one; or the error of a server that is full
local there = redis.pcall('GETRANGE', KEYS[1], 0, 255)
local created = type(there) == 'string' and tonumber(there:match('^%["k1","[^"]*",([%d.]+),'))
-- From the future: not a newer entry but a wrong one, which must not stay until it expires.
if created and created > redis.call('TIME')[1] + 60 then created = nil end
local said = 0
if not created or created <= tonumber(ARGV[3]) then
  -- The first write: a full server refuses no later one, and memory would have no bound.
  said = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  if not said.err then said = 1 end
end
if redis.pcall('GET', KEYS[2]) == ARGV[4] then redis.call('DEL', KEYS[2]) end
return said
