-- KEYS leases
-- ARGV id, lease in ms
-- returns 0 where the lease is gone, 1 renewed in time, 2 renewed after it had run out and before anybody saw it
must_be(KEYS[1], 'zset')
local deadline = deadline_of(KEYS[1], ARGV[1])
if not deadline then return 0 end
local now = now_ms()
write_even_when_full(KEYS[1])
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
return deadline > now and 1 or 2
