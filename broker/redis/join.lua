-- Begin a lease under a new id, and take over what this process held under its earlier ones.
--
-- After a transport error nobody knows whether the last script ran, or will run yet. Whoever went on under the
-- old id would renew the lease of a message it has never heard of. So the old lease ends here: a late claim or
-- commit under it does nothing.
-- KEYS leases, in-flight of the new id, owners
-- ARGV new id, lease in ms, what in-flight keys begin with, earlier ids...
-- returns {whether an earlier lease was alive, {tokens now in flight...}}
must_be(KEYS[1], 'zset')
must_be(KEYS[2], 'hash')
must_be(KEYS[3], 'hash')
local id, alive = ARGV[1], 0

write_even_when_full(KEYS[1])
for i = 4, #ARGV do
  local earlier = ARGV[i]
  if deadline_of(KEYS[1], earlier) then
    alive = 1
    local held = ARGV[3] .. earlier
    if redis.call('EXISTS', held) == 1 then
      if redis.call('EXISTS', KEYS[2]) == 0 then
        redis.call('RENAME', held, KEYS[2])
      else
        in_chunks('HSET', KEYS[2], redis.call('HGETALL', held))
        redis.call('UNLINK', held)
      end
    end
    local owned = redis.call('HGETALL', KEYS[3])
    for k = 1, #owned, 2 do
      if owned[k + 1] == earlier then redis.call('HSET', KEYS[3], owned[k], id) end
    end
    redis.call('ZREM', KEYS[1], earlier)
  end
end
redis.call('ZADD', KEYS[1], now_ms() + ARGV[2], id)
return {alive, tokens_in(KEYS[2])}
