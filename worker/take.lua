-- For each key, in one step: its entry, where there is one by now; else its lease, where nobody has it.
--
-- KEYS entry, lease of each
-- ARGV token, milliseconds
-- returns for each {entry}, or {false, 1} (the lease is ours), {false, 0} (somebody else's), {false, -1} (whoever
-- had it brought nothing that could be kept: there is nothing to wait for), {false, -2} (an error)
local function state_of(lease)
  local taken = redis.pcall('SET', lease, ARGV[1], 'NX', 'PX', ARGV[2])
  if taken and taken.err then return -2 end
  if taken then return 1 end
  local holder = redis.pcall('GET', lease)
  if type(holder) ~= 'string' then return -2 end
  return holder == ARGV[1] and 1 or holder == '!' and -1 or 0
end

local answers = {}
for k = 1, #KEYS, 2 do
  local entry = redis.pcall('GET', KEYS[k])
  answers[#answers + 1] = type(entry) == 'string' and {entry} or {false, state_of(KEYS[k + 1])}
end
return answers
