-- Move messages from their lists into the claimer's in-flight hash: there is no moment at which one is nowhere.
--
-- KEYS leases, in-flight, deliveries, then `steps` lists (kombu's priorities) for each queue
-- ARGV id, number of the first token, steps, credit of each queue
-- returns nil where the lease is gone, else {{token number, deliveries...}, items of each list...}
if not deadline_of(KEYS[1], ARGV[1]) then return false end
must_be(KEYS[2], 'hash')
local have_died = redis.call('EXISTS', KEYS[3]) == 1
if have_died then must_be(KEYS[3], 'hash') end
-- Hardly ever is there another list than the first, and each command of a script is time that everybody waits.
local are_others = redis.call('EXISTS', unpack(KEYS, 5)) > 0
if are_others then
  for k = 4, #KEYS do must_be(KEYS[k], 'list') end
end

local number, steps = tonumber(ARGV[2]), tonumber(ARGV[3])
local known, answer, credit = {}, {}, 0
for k = 4, #KEYS do
  if (k - 4) % steps == 0 then credit = tonumber(ARGV[4 + (k - 4) / steps]) end
  local may_have = credit > 0 and (k == 4 or are_others)
  local items = may_have and write_first('list', 'RPOP', KEYS[k], credit) or {}
  local fields = {}
  for _, item in ipairs(items) do
    fields[#fields + 1] = number .. ':' .. KEYS[k]
    fields[#fields + 1] = item
    -- Only after a death is anything counted, and only then is a digest worth its time.
    local count = have_died and redis.call('HGET', KEYS[3], redis.sha1hex(item))
    if count then
      known[#known + 1] = number
      known[#known + 1] = count
    end
    number = number + 1
  end
  in_chunks('HSET', KEYS[2], fields)
  credit = credit - #items
  answer[#answer + 1] = items
end
return {known, unpack(answer)}
