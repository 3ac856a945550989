-- Says of holders what only their claim knows: whether they talk to an agent, and by which accounts.
-- KEYS  1 lines:talking  2 gate:holders
-- ARGV  1 how many of the ids do not talk  2.. what those that do take one of (talking.lua), then the attempt ids: those that do
--       not, then those that do
-- Returns those that would talk and find no room. May run twice with the same result.
local rooms, first = rooms_from(2)
local silent = tonumber(ARGV[1])
for i = first, first - 1 + silent do
    silence(KEYS[1], KEYS[2], ARGV[i])
end
local none = {}
for i = first + silent, #ARGV do
    if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 or is_full(KEYS[1], rooms, ARGV[i]) then
        none[#none + 1] = ARGV[i]
    else
        talk(KEYS[1], KEYS[2], rooms, ARGV[i])
    end
end
return none
