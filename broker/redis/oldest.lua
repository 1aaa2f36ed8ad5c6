-- KEYS the lists of all queues
-- returns for each when its next item was enqueued, as text; '' where it is empty or does not say
-- Only the end of an item is searched: in kombu's envelope the headers come after the body.
local found = {}
for n, list in ipairs(KEYS) do
  found[n] = ''
  if redis.call('TYPE', list).ok == 'list' then
    local item = redis.call('LINDEX', list, -1)
    if item then
      found[n] = string.match(string.sub(item, -16384), '"enqueued_at":%s*(%d+%.?%d*)') or ''
    end
  end
end
return found
