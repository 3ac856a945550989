-- Adds the holder of an open attempt that the gate does not know, unless it was released a moment ago.
-- KEYS  1 slots:{business}:held  2 lines:held  3 gate:holders  4 calls:active_count  5 gate:freed  6 lines:talking
-- ARGV  1 business  2 attempt id  3 slot  4 line  5 tombstone ms  6.. where it talks to an agent: what it takes one of (talking.lua)
-- Returns 1 if it was added.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local freed = redis.call('ZSCORE', KEYS[5], ARGV[2])
if freed and now_ms - tonumber(freed) < tonumber(ARGV[5]) then
    return 0
end
-- Somebody may have taken it meanwhile, for more accounts than it uses: what its holder said of them goes with it.
silence(KEYS[6], KEYS[3], ARGV[2])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[2], now_ms .. ':' .. ARGV[1] .. ':' .. ARGV[3] .. ':' .. ARGV[4])
-- It talks already, whether or not there is room.
local rooms = rooms_from(6)
if #rooms > 0 then
    talk(KEYS[6], KEYS[3], rooms, ARGV[2])
end
redis.call('SET', KEYS[4], redis.call('ZCARD', KEYS[2]))
return 1
