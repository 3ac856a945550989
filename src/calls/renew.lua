-- Renews the lease of one call. A Redis that was emptied is filled again by the one who has the call.
-- KEYS  1 calls:lease:{call}  2 calls:epoch:{call}  3 calls:watched  4 calls:state:{call}
-- ARGV  1 owner  2 epoch  3 replica  4 lease ms  5 call id  6 ms until it is looked for  7 ttl of the state, ms
-- Returns 1 where it is renewed, 2 where it is renewed and the state is gone, 0 where somebody else has the call.
local owner = redis.call('HGET', KEYS[1], 'owner')
local epoch = redis.call('GET', KEYS[2])
if (owner and owner ~= ARGV[1]) or (epoch and tonumber(epoch) > tonumber(ARGV[2])) then
    return 0
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'replica', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[7])
redis.call('ZADD', KEYS[3], now_ms + tonumber(ARGV[6]), ARGV[5])
if redis.call('EXISTS', KEYS[4]) == 0 then
    return 2
end
return 1
