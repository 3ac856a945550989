-- Takes up to k slots of one business, as many lines of the installation, and a pace token of the account for each.
-- KEYS  1 gate:ready  2 slots:{business}:held  3 lines:held  4 gate:holders  5 calls:active_count  6 pace:{account}
-- ARGV  1 business  2 slot limit  3 line limit  4 tokens per second  5 most tokens saved up  6 least tokens to go on with
--       7.. attempt ids, wanted in this order
-- Returns {-1} where the gate is not ready, else {short, wait_ms, slot, line, slot, line, ...}: as many pairs as were taken,
-- for the first ids; short: 0 all taken, 1 no slot, 2 no line, 3 no token (the next one in wait_ms).
if redis.call('EXISTS', KEYS[1]) == 0 then
    return {-1}
end
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)

local function used(key)
    local numbers, all = {}, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 2, #all, 2 do
        numbers[tonumber(all[i])] = true
    end
    return numbers, #all / 2
end
local slots, slot_count = used(KEYS[2])
local lines, line_count = used(KEYS[3])

local rate, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local pace = redis.call('HMGET', KEYS[6], 'tokens', 'at_us')
local tokens, at_us = tonumber(pace[1]), tonumber(pace[2])
if not tokens or not at_us or at_us > now_us then
    tokens = most
else
    tokens = math.min(most, tokens + (now_us - at_us) * rate / 1000000)
end

local out, short = {0, 0}, 0
local slot, line = 1, 1
local least = tonumber(ARGV[6])
for i = 7, #ARGV do
    if slot_count >= tonumber(ARGV[2]) then
        short = 1
    elseif line_count >= tonumber(ARGV[3]) then
        short = 2
    elseif tokens < least then
        short = 3
        out[2] = math.ceil((least - tokens) * 1000 / rate)
    end
    if short > 0 then
        break
    end
    while slots[slot] do slot = slot + 1 end
    while lines[line] do line = line + 1 end
    slots[slot], lines[line] = true, true
    slot_count, line_count, tokens = slot_count + 1, line_count + 1, tokens - 1
    redis.call('ZADD', KEYS[2], slot, ARGV[i])
    redis.call('ZADD', KEYS[3], line, ARGV[i])
    redis.call('HSET', KEYS[4], ARGV[i], now_ms .. ':' .. ARGV[1] .. ':' .. slot .. ':' .. line)
    out[#out + 1] = slot
    out[#out + 1] = line
end
out[1] = short
redis.call('HSET', KEYS[6], 'tokens', tostring(tokens), 'at_us', string.format('%.0f', now_us))
redis.call('PEXPIRE', KEYS[6], 3600000)
redis.call('SET', KEYS[5], redis.call('ZCARD', KEYS[3]))
return out
