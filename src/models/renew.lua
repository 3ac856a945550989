-- Renews the permits of an account that a process holds. A Redis that was emptied is filled again by those who hold them.
-- KEYS  1 calls:permits:{provider}:{account}  2 calls:permits:holders:{provider}:{account}
-- ARGV  1 ms until they are free unless they are renewed  2 call id  3 holder  4 call id  5 holder …
local time = redis.call('TIME')
local free_at_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
    local holder = redis.call('HGET', KEYS[2], ARGV[i])
    if not holder or holder == ARGV[i + 1] then
        redis.call('ZADD', KEYS[1], free_at_ms, ARGV[i])
        redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
