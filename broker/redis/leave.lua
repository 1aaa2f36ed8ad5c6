-- End one's own lease: what is held goes back, private queues go.
-- KEYS leases, in-flight, owners
-- ARGV id
-- returns how many messages went back
if not deadline_of(KEYS[1], ARGV[1]) then return 0 end
must_be(KEYS[2], 'hash')
must_be(KEYS[3], 'hash')
local count = give_back(KEYS[2], tokens_in(KEYS[2]))
drop_owned(KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return count
