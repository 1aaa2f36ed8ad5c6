-- Give messages back to the front of their queues.
-- KEYS leases, in-flight
-- ARGV id, tokens...
-- returns nil where the lease is gone, else how many went back
if not deadline_of(KEYS[1], ARGV[1]) then return false end
must_be(KEYS[2], 'hash')
local tokens = {}
for i = 2, #ARGV do tokens[#tokens + 1] = ARGV[i] end
return give_back(KEYS[2], newest_first(tokens))
