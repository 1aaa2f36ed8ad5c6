-- Go on holding leases; or, with a last word, say that nothing will come of them; or, with no time, let them go.
--
-- KEYS leases
-- ARGV token, milliseconds, last word (or nothing)
-- returns how many were ours
local ours = 0
for _, lease in ipairs(KEYS) do
  if redis.pcall('GET', lease) == ARGV[1] then
    ours = ours + 1
    if ARGV[3] ~= '' and not redis.pcall('SET', lease, ARGV[3], 'PX', ARGV[2]).err then
      -- said
    elseif ARGV[3] == '' and ARGV[2] ~= '0' then
      redis.call('PEXPIRE', lease, ARGV[2])
    else
      redis.call('DEL', lease) -- or a full server: they ask again, one after the other
    end
  end
end
return ours
