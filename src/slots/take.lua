-- Takes up to k slots of one business, as many lines of the installation, and a pace token of the account for each. Lines that are
-- kept for others are not taken, but by a call that goes ahead of lists.
-- KEYS  1 gate:ready  2 slots:{business}:held  3 lines:held  4 gate:holders  5 calls:active_count  6 pace:{account}
--       7 lines:wanted  8 lines:since  9 lines:turns  10 lines:talking
-- ARGV  1 business  2 slot limit  3 line limit  4 tokens per second  5 most tokens saved up  6 least tokens to go on with
--       7 1 where it goes ahead of lists  8.. where these may talk to an agent: what each takes one of (talking.lua), else 0; then the
--       attempt ids, wanted in this order
-- Returns {{-1}, {}} where the gate is not ready, else {{short, wait_ms, waited_ms, slot, line, slot, line, ...}, turns}: as many pairs as
-- were taken, for the first ids; short: 0 all taken, 1 no slot, 2 no line, 3 no token (the next one in wait_ms), 4 no room for a
-- conversation; waited_ms: for the line, -1 where it did not wait; turns: the businesses whose turn it is now, because this one could
-- not use its own.
if redis.call('EXISTS', KEYS[1]) == 0 then
    return {{-1}, {}}
end
local now_us = now()
local now_ms = math.floor(now_us / 1000)

-- The lowest number from this one on that nobody holds. Numbers are handed out once, so as long as the one of rank n (from 0) is at most
-- n + 1, nothing up to it is free. (Where a wrong gate holds one twice, what is found is free all the same, though not the lowest.)
local function free_from(first, key, count)
    local low, high = first, count + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if tonumber(redis.call('ZRANGE', key, middle - 1, middle - 1, 'WITHSCORES')[2]) <= middle then
            low = middle + 1
        else
            high = middle
        end
    end
    return low
end
local slot_count, line_count = redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3])

local rate, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local pace = redis.call('HMGET', KEYS[6], 'tokens', 'at_us')
local tokens, at_us = tonumber(pace[1]), tonumber(pace[2])
if not tokens or not at_us or at_us > now_us then
    tokens = most
else
    tokens = math.min(most, tokens + (now_us - at_us) * rate / 1000000)
end

local at = {wanted = KEYS[7], since = KEYS[8], turns = KEYS[9]}
local ahead = ARGV[7] == '1'
local turn, kept
if not ahead then
    end_turns(at, now_us)
    turn = redis.call('ZSCORE', at.turns, ARGV[1])
    redis.call('ZREM', at.turns, ARGV[1])
    kept = redis.call('ZCARD', at.turns)
end

local out, short = {0, 0, -1}, 0
local slot, line = 1, 1
local least = tonumber(ARGV[6])
local rooms, first = rooms_from(8)
for i = first, #ARGV do
    if slot_count >= tonumber(ARGV[2]) then
        short = 1
    elseif line_count + (kept or 0) >= tonumber(ARGV[3]) then
        short = 2
    elseif is_full(KEYS[10], rooms) then
        short = 4
    elseif tokens < least then
        short = 3
        out[2] = math.ceil((least - tokens) * 1000 / rate)
    end
    if short > 0 then
        break
    end
    slot, line = free_from(slot, KEYS[2], slot_count), free_from(line, KEYS[3], line_count)
    slot_count, line_count, tokens = slot_count + 1, line_count + 1, tokens - 1
    redis.call('ZADD', KEYS[2], slot, ARGV[i])
    redis.call('ZADD', KEYS[3], line, ARGV[i])
    redis.call('HSET', KEYS[4], ARGV[i], now_ms .. ':' .. ARGV[1] .. ':' .. slot .. ':' .. line)
    if #rooms > 0 then
        talk(KEYS[10], KEYS[4], rooms, ARGV[i])
    end
    out[#out + 1] = slot
    out[#out + 1] = line
end
out[1] = short
redis.call('HSET', KEYS[6], 'tokens', tostring(tokens), 'at_us', score(now_us))
redis.call('PEXPIRE', KEYS[6], 3600000)
redis.call('SET', KEYS[5], redis.call('ZCARD', KEYS[3]))

if ahead then
    return {out, {}}
end
local took = #out > 3
if took then
    local since = redis.call('HGET', at.since, ARGV[1])
    out[3] = since and now_ms - since or -1
end
local none = short == 2
if took or not none then
    leave(at, ARGV[1])
end
if none then
    -- At the end of those who wait: whoever is new, and whoever had its turn. Nobody loses a place by asking again.
    if turn then
        redis.call('ZREM', at.wanted, ARGV[1])
    end
    redis.call('ZADD', at.wanted, 'NX', score(now_us), ARGV[1])
    redis.call('HSETNX', at.since, ARGV[1], now_ms)
end
return {out, hand_out(at, turn and not took and 1 or 0, tonumber(turn))}
