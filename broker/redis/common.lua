-- Put before every script. Lua does not roll back: whatever can be wrong is found before the first write.

local CHUNK = 2000 -- unpack() has a limit of about 8,000

-- Milliseconds of the server's clock, the only one that leases know.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The deadline of a holder's lease; nil where it has none, or is condemned (0): a reaper is taking what it held.
local function deadline_of(leases, holder)
  local deadline = tonumber(redis.call('ZSCORE', leases, holder) or 0)
  return deadline > 0 and deadline or nil
end

local function is_kind(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end

local function must_be(key, kind)
  if not is_kind(key, kind) then
    error('WRONGTYPE ' .. key .. ' is a ' .. redis.call('TYPE', key).ok .. '; expected a ' .. kind, 0)
  end
end

-- The first write needs no check before it: where it is refused, nothing has been done. The error names the key.
local function write_first(kind, command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    must_be(key, kind)
    error(answer.err, 0)
  end
  return answer
end

-- A full server refuses a script's first write if it may grow, and none after it. Nothing that holds a lease
-- may fail for want of memory: it would be taken for dead. So its first write is one that removes nothing.
local function write_even_when_full(key)
  redis.call('ZREM', key, '')
end

local function in_chunks(command, key, values, first)
  for from = first or 1, #values, CHUNK do
    redis.call(command, key, unpack(values, from, math.min(from + CHUNK - 1, #values)))
  end
end

-- A token is `<number>:<list>`: the number says the order, the list where it came from.
local function number_of(token) return tonumber(token:match('^%d+')) end
local function list_of(token) return token:match('^%d+:(.*)$') end
local function blame_of(token) return '!' .. token end

-- The tokens in an in-flight hash, newest first: given back in this order, the oldest is delivered first.
local function newest_first(tokens)
  local number = {} -- read once: a sort compares each many times, and the whole server waits
  for _, token in ipairs(tokens) do number[token] = number_of(token) end
  table.sort(tokens, function(a, b) return number[a] > number[b] end)
  return tokens
end

local function tokens_in(in_flight)
  local tokens = {}
  for _, field in ipairs(redis.call('HKEYS', in_flight)) do
    if field:match('^%d') then tokens[#tokens + 1] = field end
  end
  return newest_first(tokens)
end

local function check_lists(tokens)
  local seen = {}
  for _, token in ipairs(tokens) do
    local list = list_of(token)
    if not seen[list] then
      must_be(list, 'list')
      seen[list] = true
    end
  end
end

-- Put what is in flight back to the front of its list. `before` sees each token and item first.
local function give_back(in_flight, tokens, before)
  check_lists(tokens)
  local count = 0
  for _, token in ipairs(tokens) do
    local item = redis.call('HGET', in_flight, token)
    if item then
      if before then before(token, item) end
      redis.call('HDEL', in_flight, token, blame_of(token))
      redis.call('RPUSH', list_of(token), item)
      count = count + 1
    end
  end
  return count
end

-- A private reply queue goes with its owner.
local function drop_owned(owners, holder)
  local entries = redis.call('HGETALL', owners)
  for i = 1, #entries, 2 do
    if entries[i + 1] == holder then
      redis.call('UNLINK', entries[i])
      redis.call('HDEL', owners, entries[i])
    end
  end
end
