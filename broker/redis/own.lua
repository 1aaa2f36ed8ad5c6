-- KEYS leases, owners
-- ARGV id, queue
-- returns nil where the lease is gone
if not deadline_of(KEYS[1], ARGV[1]) then return false end
must_be(KEYS[2], 'hash')
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
return 1
