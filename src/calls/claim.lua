-- A session takes a call: whoever has the carrier's newest stream has it. The epoch stays with the state, so that a lease that
-- has run out does not begin it again.
-- KEYS  1 calls:state:{call}  2 calls:lease:{call}  3 calls:epoch:{call}  4 voice_sessions  5 calls:watched
-- ARGV  1 owner  2 replica  3 lease ms  4 call id  5 ms until it is looked for
-- Returns {} where the call is not known, else {state, epoch, owner before or '', ms since 1970}.
local state = redis.call('GET', KEYS[1])
if not state then
    return {}
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('HGET', KEYS[2], 'owner') or ''
local epoch = redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], math.max(redis.call('PTTL', KEYS[1]), 60000))
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'replica', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('LREM', KEYS[4], 0, ARGV[4])
redis.call('ZADD', KEYS[5], now_ms + tonumber(ARGV[5]), ARGV[4])
return {state, epoch, before, string.format('%.0f', now_ms)}
