-- Takes a permit of an account for a call, over all processes. A call that has one already keeps it: whoever asks last holds it.
-- KEYS  1 calls:permits:{provider}:{account}  2 calls:permits:holders:{provider}:{account}
-- ARGV  1 most  2 call id  3 holder  4 ms until it is free unless it is renewed
-- Returns 1 where it is taken, 0 where all are.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for _, call in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do
    redis.call('ZREM', KEYS[1], call)
    redis.call('HDEL', KEYS[2], call)
end
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
    return 0
end
redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[4]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
