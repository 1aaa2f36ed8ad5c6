-- Give back what one holder held whose lease has run out, and count the delivery that its death cut short.
--
-- The holder is condemned first, so that a late commit of it sends nothing however many calls this takes.
-- KEYS leases, deliveries, owners
-- ARGV id, what in-flight keys begin with, messages at most, seconds for which deliveries are counted,
--      milliseconds for which the reaper has renewed in time
-- returns nil where the reaper's own lease has run out, {} where nobody is dead, else {holder, messages}
must_be(KEYS[1], 'zset')
must_be(KEYS[2], 'hash')
must_be(KEYS[3], 'hash')
local now = now_ms()
if (deadline_of(KEYS[1], ARGV[1]) or 0) <= now then return false end
-- A holder's id ends with the length of its lease: who has been alive for less cannot tell the dead from those
-- who come back after an outage.
local dead
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)) do
  if not deadline_of(KEYS[1], holder) or tonumber(holder:match('@(%d+)$') or 0) <= tonumber(ARGV[5]) then
    dead = holder
    break
  end
end
if not dead then return {} end

local in_flight = ARGV[2] .. dead
must_be(in_flight, 'hash')
local all, tokens = tokens_in(in_flight), {}
for i = 1, math.min(#all, tonumber(ARGV[3])) do tokens[i] = all[i] end
check_lists(tokens)

write_even_when_full(KEYS[1])
redis.call('ZADD', KEYS[1], 'XX', 0, dead)

-- `<deliveries>` or `<deliveries>;<position>,<position>...` of the requests that ran alone when a worker died.
local function count_death(token, item)
  local digest, position = redis.sha1hex(item), redis.call('HGET', in_flight, blame_of(token))
  local count, blamed = (redis.call('HGET', KEYS[2], digest) or '0;'):match('^(%d+);?(.*)$')
  if position and not (',' .. blamed .. ','):find(',' .. position .. ',', 1, true) then
    blamed = blamed == '' and position or blamed .. ',' .. position
  end
  redis.call('HSET', KEYS[2], digest, (count + 1) .. ';' .. blamed)
end

local count = give_back(in_flight, tokens, count_death)
if count > 0 then redis.call('EXPIRE', KEYS[2], ARGV[4]) end
if #tokens == #all then
  redis.call('UNLINK', in_flight)
  drop_owned(KEYS[3], dead)
  redis.call('ZREM', KEYS[1], dead)
end
return {dead, count}
