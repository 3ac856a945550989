-- Says of holders what only their claim knows: whether they talk to an agent.
-- KEYS  1 lines:talking  2 gate:holders
-- ARGV  1 how many may talk at once  2 how many of the ids do not  3.. attempt ids: those that do not, then those that do
-- Returns those that would talk and find no room. May run twice with the same result.
local silent = tonumber(ARGV[2])
for i = 3, 2 + silent do
    redis.call('SREM', KEYS[1], ARGV[i])
end
local talks = redis.call('SCARD', KEYS[1])
local none = {}
for i = 3 + silent, #ARGV do
    if redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 0 then
        if talks >= tonumber(ARGV[1]) or redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
            none[#none + 1] = ARGV[i]
        else
            redis.call('SADD', KEYS[1], ARGV[i])
            talks = talks + 1
        end
    end
end
return none
