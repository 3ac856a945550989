-- Writes the state of a call, by the one who has it only; with ARGV 4 it gives the lease up, too.
-- KEYS  1 calls:state:{call}  2 calls:lease:{call}  3 calls:epoch:{call}  4 calls:watched
-- ARGV  1 owner  2 epoch  3 state  4 '' | 'handed_over' | 'ended'  5 ttl, ms  6 call id  7 ms until a call that was given up is looked for
-- Returns 1 where it is written.
local owner = redis.call('HGET', KEYS[2], 'owner')
local epoch = redis.call('GET', KEYS[3])
if (owner and owner ~= ARGV[1]) or (epoch and tonumber(epoch) > tonumber(ARGV[2])) then
    return 0
end
local function watch()
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[7]), ARGV[6])
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[5])
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[5])
if ARGV[4] == 'ended' then
    redis.call('DEL', KEYS[2])
    -- The end takes the call, too: a renewal that was on its way would otherwise make the lease anew, as after an emptied Redis.
    redis.call('SET', KEYS[3], string.format('%d', ARGV[2] + 1), 'PX', ARGV[5])
    -- Still watched: whoever ended it forgets it once what was said is kept, and if that fails another one keeps it.
    watch()
elseif ARGV[4] == 'handed_over' then
    redis.call('HSET', KEYS[2], 'draining', 1)
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
    watch()
end
return 1
