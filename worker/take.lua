-- For each key, in one step: its entry, where there is one by now; else its lease, where nobody has it.
--
-- KEYS entry, lease of each
-- ARGV token, milliseconds
-- returns for each {entry}, or {false, 1} (the lease is ours), {false, 0} (somebody else's), {false, -1} (whoever
-- had it brought nothing that could be kept: there is nothing to wait for)
local answers = {}
for k = 1, #KEYS, 2 do
  local entry = redis.call('GET', KEYS[k])
  if entry then
    answers[#answers + 1] = {entry}
  elseif redis.call('SET', KEYS[k + 1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    answers[#answers + 1] = {false, 1}
  else
    local holder = redis.call('GET', KEYS[k + 1])
    answers[#answers + 1] = {false, holder == ARGV[1] and 1 or holder == '!' and -1 or 0}
  end
end
return answers
