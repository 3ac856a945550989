-- Releases holders of one business by id, and gives unused pace tokens back. May run twice with the same result.
-- KEYS  1 slots:{business}:held  2 lines:held  3 gate:holders  4 calls:active_count  5 gate:freed  6 pace:{account}  7 ends:{account}
-- ARGV  1 tokens to give back  2 tombstone ms (0: none)  3 how the end was learned: told, asked or none  4.. attempt ids
-- Returns how many were held.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local held = 0
for i = 4, #ARGV do
    held = held + redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[3], ARGV[i])
    if tonumber(ARGV[2]) > 0 then
        redis.call('ZADD', KEYS[5], now_ms, ARGV[i])
    end
end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now_ms - 10000)
redis.call('SET', KEYS[4], redis.call('ZCARD', KEYS[2]))
local back = tonumber(ARGV[1])
if back > 0 and redis.call('EXISTS', KEYS[6]) == 1 then
    redis.call('HINCRBYFLOAT', KEYS[6], 'tokens', back)
end
if ARGV[3] ~= 'none' then
    redis.call('HINCRBY', KEYS[7], ARGV[3], #ARGV - 3)
    if redis.call('TTL', KEYS[7]) < 0 then
        redis.call('EXPIRE', KEYS[7], 60)
    end
end
return held
