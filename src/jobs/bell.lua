-- May a bell be rung for this business now?
-- KEYS  1 bells:{business}  2 the queue's scheduled set  3 the queue's active list  4 bells:rung
-- ARGV  1 flag ms  2 most bells outstanding  3 business
-- Returns the time in ms where the caller shall push one, 0 where one is outstanding already, -1 where too many are.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
if redis.call('ZCARD', KEYS[2]) + redis.call('LLEN', KEYS[3]) >= tonumber(ARGV[2]) then
    return -1
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
redis.call('ZADD', KEYS[4], now_ms, ARGV[3])
return now_ms
