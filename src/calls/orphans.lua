-- Calls that nobody has: their session has not renewed its lease, or none ever came. Each is given to one who asks, and again
-- to another until somebody says that it is over.
-- KEYS  1 calls:watched  2 voice_sessions     ARGV  1 most  2 ms until it is given again
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local calls = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[1])
for _, call in ipairs(calls) do
    redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[2]), call)
    redis.call('LREM', KEYS[2], 0, call)
end
return calls
