-- A call was answered and waits for its session. What a session has written already is never put back.
-- KEYS  1 calls:state:{call}  2 voice_sessions  3 calls:watched  4 calls:token:{hash}
-- ARGV  1 state  2 ttl, ms  3 call id  4 ms until it is looked for  5 ticket  6 ttl of the ticket, ms
-- Returns the state that holds.
local time = redis.call('TIME')
if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then
    redis.call('LREM', KEYS[2], 0, ARGV[3])
    redis.call('RPUSH', KEYS[2], ARGV[3])
end
redis.call('ZADD', KEYS[3], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4]), ARGV[3])
redis.call('SET', KEYS[4], ARGV[5], 'PX', ARGV[6])
return redis.call('GET', KEYS[1])
