-- Calls that nobody has: their session has not renewed its lease, or none ever came. Each is given to one who asks, and again
-- to another until somebody says that it is over.
-- Where nobody has looked for a while, Redis could not be asked, and no session could renew: then nothing is known of any call,
-- and each gets its time anew.
-- KEYS  1 calls:watched  2 voice_sessions  3 calls:looked
-- ARGV  1 most  2 ms until it is given again  3 ms after which a look is long ago
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local looked_ms = tonumber(redis.call('GET', KEYS[3]) or '0')
redis.call('SET', KEYS[3], string.format('%.0f', now_ms), 'PX', 60000)
local later_ms = now_ms + tonumber(ARGV[2])
if now_ms - looked_ms > tonumber(ARGV[3]) then
    for _, call in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do
        redis.call('ZADD', KEYS[1], later_ms, call)
    end
    return {}
end
local calls = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[1])
for _, call in ipairs(calls) do
    redis.call('ZADD', KEYS[1], later_ms, call)
    redis.call('LREM', KEYS[2], 0, call)
end
return calls
