-- A call was answered and waits for its session. What a session has written already is never put back. A stream that is opened
-- after one that no session came of does not give the call more time: it is looked for as soon as after the first.
-- KEYS  1 calls:state:{call}  2 voice_sessions  3 calls:watched  4 calls:token:{hash}  5 calls:opened:{call}  6 calls:epoch:{call}
-- ARGV  1 state  2 ttl, ms  3 call id  4 ms until it is looked for  5 ticket  6 ttl of the ticket, ms
-- Returns the state that holds, and how many tickets the call was given, this one included.
local time = redis.call('TIME')
if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then
    redis.call('LREM', KEYS[2], 0, ARGV[3])
    redis.call('RPUSH', KEYS[2], ARGV[3])
end
local epoch = redis.call('GET', KEYS[6]) or '0'
local before = redis.call('HGET', KEYS[5], 'epoch')
local opened = redis.call('HINCRBY', KEYS[5], 'opened', 1)
redis.call('HSET', KEYS[5], 'epoch', epoch)
redis.call('PEXPIRE', KEYS[5], ARGV[2])
local look_at = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4])
if before == epoch then
    redis.call('ZADD', KEYS[3], 'NX', look_at, ARGV[3])
else
    redis.call('ZADD', KEYS[3], look_at, ARGV[3])
end
redis.call('SET', KEYS[4], ARGV[5], 'PX', ARGV[6])
return {redis.call('GET', KEYS[1]), opened}
