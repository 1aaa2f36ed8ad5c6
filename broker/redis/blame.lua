-- KEYS leases, in-flight
-- ARGV id, token, position (or nothing: it is nobody's doing)
-- returns nil where the lease is gone, else whether the message is still held
if not deadline_of(KEYS[1], ARGV[1]) then return false end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], blame_of(ARGV[2])) -- a write that a full server takes, so that it takes the next
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], blame_of(ARGV[2]), ARGV[3]) end
return 1
