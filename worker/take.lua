-- For each key, in one step: its entry, where there is a new one by now; else its lease, where nobody has it.
--
-- KEYS entry, lease of each
-- ARGV token, milliseconds, then for each when the call began behind the entry that is known already (Unix seconds)
-- returns for each {entry}, or {false, 1} (the lease is ours), {false, 0} (somebody else's), {false, -1} (whoever
-- had it has failed), {false, -2} (an error), {false, -3} (whoever had it brought nothing that is kept)
local function state_of(lease)
  local taken = redis.pcall('SET', lease, ARGV[1], 'NX', 'PX', ARGV[2])
  if taken and taken.err then return -2 end
  if taken then return 1 end
  local holder = redis.pcall('GET', lease)
  if type(holder) ~= 'string' then return -2 end
  return holder == ARGV[1] and 1 or holder == '!' and -1 or holder == '-' and -3 or 0
end

-- What is kept past its time, to stand in for a model that fails, is nobody's answer here.
local function newer_entry(key, seen)
  local there = redis.pcall('GET', key)
  if type(there) ~= 'string' then return nil end
  local created = tonumber(there:match('^%["k1","[^"]*",([%d.]+),'))
  return created and created > seen and there or nil
end

local answers = {}
for k = 1, #KEYS, 2 do
  local entry = newer_entry(KEYS[k], tonumber(ARGV[2 + (k + 1) / 2]))
  answers[#answers + 1] = entry and {entry} or {false, state_of(KEYS[k + 1])}
end
return answers
