-- Frees the permit of a call, unless somebody else holds it now.
-- KEYS  1 calls:permits:{provider}:{account}  2 calls:permits:holders:{provider}:{account}
-- ARGV  1 call id  2 holder
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[2], ARGV[1])
end
