-- Entries of the gate's keys that no holder has, and holders whose line or slot is gone: nobody leaves such a thing behind but who
-- writes or deletes keys of the gate by hand.
-- KEYS  1 gate:holders  2 calls:active_count  3 lines:held  4 lines:talking  5.. slots:{business}:held
-- ARGV  1 1 where they are removed
-- Returns how many holders have no line, or no slot of a business asked for, and how many entries of each key from the third on no
-- holder has; of the fourth with those of each account beside it.
local forget = ARGV[1] == '1'

local function without_holder(key, entries, remove)
    local n = 0
    for _, entry in ipairs(entries) do
        if redis.call('HEXISTS', KEYS[1], entry) == 0 then
            n = n + 1
            if forget then
                redis.call(remove, key, entry)
            end
        end
    end
    return n
end

local slots_of = {}
for i = 5, #KEYS do
    slots_of[string.match(KEYS[i], 'slots:{(.-)}:held$')] = KEYS[i]
end
local found = {0}
local holders = redis.call('HGETALL', KEYS[1])
for i = 1, #holders, 2 do
    local holder = holders[i]
    -- {ms}:{business}:{slot}:{line}
    local slots = slots_of[string.match(holders[i + 1], '^%d+:([^:]+):')]
    if not redis.call('ZSCORE', KEYS[3], holder) or slots and not redis.call('ZSCORE', slots, holder) then
        found[1] = found[1] + 1
        if forget then
            redis.call('HDEL', KEYS[1], holder)
        end
    end
end
for i = 3, #KEYS do
    if i == 4 then
        found[i - 1] = without_holder(KEYS[i], redis.call('SMEMBERS', KEYS[i]), 'SREM')
        for _, account in ipairs(redis.call('SMEMBERS', KEYS[i] .. ':accounts')) do
            local key = KEYS[i] .. ':' .. account
            found[i - 1] = found[i - 1] + without_holder(key, redis.call('SMEMBERS', key), 'SREM')
            -- Each look reads all that are named here: who is not in use is named again when it is.
            if forget and redis.call('EXISTS', key) == 0 then
                redis.call('SREM', KEYS[i] .. ':accounts', account)
            end
        end
    else
        found[i - 1] = without_holder(KEYS[i], redis.call('ZRANGE', KEYS[i], 0, -1), 'ZREM')
    end
end
if forget and found[2] > 0 then
    redis.call('SET', KEYS[2], redis.call('ZCARD', KEYS[3]))
end
return found
