-- Forgets the bells of a set in small steps: the queue library keeps them for ever.
-- KEYS  1 done or dead set, or what a worker had taken  2 task data hash     ARGV  1 meta key prefix  2 most per call
-- Returns how many were forgotten.
local ids = redis.call('SPOP', KEYS[1], ARGV[2])
for _, id in ipairs(ids) do
    redis.call('HDEL', KEYS[2], id)
    redis.call('DEL', ARGV[1] .. ':' .. id)
end
return #ids
