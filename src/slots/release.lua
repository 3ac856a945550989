-- Releases holders of one business by id, and gives unused pace tokens back. May run twice with the same result.
-- KEYS  1 slots:{business}:held  2 lines:held  3 gate:holders  4 calls:active_count  5 gate:freed  6 pace:{account}  7 ends:{account}
--       8 lines:wanted  9 lines:since  10 lines:turns  11 lines:talking
-- ARGV  1 tokens to give back  2 tombstone ms (0: none)  3 how the end was learned: told, asked or none
--       4 the business where it has nothing more to dial and waits for no line, else empty  5.. attempt ids
-- Returns {how many were held, the businesses whose turn it is to take their lines}.
local now_us = now()
local now_ms = math.floor(now_us / 1000)
local held = 0
for i = 5, #ARGV do
    held = held + redis.call('ZREM', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    silence(KEYS[11], KEYS[3], ARGV[i])
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
    redis.call('HINCRBY', KEYS[7], ARGV[3], #ARGV - 4)
    if redis.call('TTL', KEYS[7]) < 0 then
        redis.call('EXPIRE', KEYS[7], 60)
    end
end
local at = {wanted = KEYS[8], since = KEYS[9], turns = KEYS[10]}
local free = held
if ARGV[4] ~= '' then
    leave(at, ARGV[4])
    free = free + redis.call('ZREM', at.turns, ARGV[4])
end
return {held, hand_out(at, free, now_us + TURN)}
