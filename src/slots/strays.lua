-- Forgets who counts as talking and holds nothing. Nobody leaves such a thing behind but who deletes keys of the gate by hand.
-- KEYS  1 lines:talking  2 gate:holders
-- Returns how many there were.
local strays = 0
for _, attempt in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    if redis.call('HEXISTS', KEYS[2], attempt) == 0 then
        strays = strays + redis.call('SREM', KEYS[1], attempt)
    end
end
return strays
