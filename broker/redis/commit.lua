-- Acknowledge messages and send what is sent because of them, in one step; or, without messages, just send.
--
-- Nothing removed means that it was committed before (the answer was lost) or reaped: then nothing is sent. So
-- a commit may be repeated, as long as it is the same one: a group is in flight as a whole or not at all.
-- KEYS leases, in-flight, deliveries, owners, declared, destinations...
-- ARGV id, number of tokens, tokens..., number of digests, digests (of those delivered before)...,
--      and for each destination: 1 where somebody must have made it, number of items, items...
-- returns nil where the lease is gone; {-1, destinations that take nothing...}, with nothing done;
--      else {messages removed}
if not deadline_of(KEYS[1], ARGV[1]) then return false end

local at = 2
local function take_list()
  local list, count = {}, tonumber(ARGV[at])
  for i = at + 1, at + count do list[#list + 1] = ARGV[i] end
  at = at + count + 1
  return list
end

-- Stock kombu declares a queue by a binding, named after the exchange that its SimpleQueue makes for it. Who may
-- use our own keys only (an ACL of ~recollect*) cannot ask for it, and has no such consumers: pcall.
local function is_made(queue)
  return redis.call('HEXISTS', KEYS[4], queue) == 1
    or redis.call('SISMEMBER', KEYS[5], queue) == 1
    or redis.pcall('EXISTS', '_kombu.binding.' .. queue) == 1
end

local tokens, digests = take_list(), take_list()
if #digests > 0 then must_be(KEYS[3], 'hash') end
local outgoing, closed = {}, {}
for k = 6, #KEYS do
  local must_be_made = ARGV[at] == '1'
  at = at + 1
  outgoing[k] = take_list()
  if not is_kind(KEYS[k], 'list') or (must_be_made and not is_made(KEYS[k])) then
    closed[#closed + 1] = k - 6
  end
end
if #closed > 0 then return {-1, unpack(closed)} end

local removed = 0
for from = 1, #tokens, CHUNK do
  local to = math.min(from + CHUNK - 1, #tokens)
  removed = removed + write_first('hash', 'HDEL', KEYS[2], unpack(tokens, from, to))
end
if #tokens > 0 and removed == 0 then return {0} end
for _, token in ipairs(tokens) do
  if #digests > 0 then redis.call('HDEL', KEYS[2], blame_of(token)) end
end
in_chunks('HDEL', KEYS[3], digests)
for k = 6, #KEYS do in_chunks('LPUSH', KEYS[k], outgoing[k]) end
return {removed}
