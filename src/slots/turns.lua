-- Whose turn it is at the lines: the beginning of the scripts that take and free them.
-- Who finds no line waits (wanted: business by the time it came, us; since: when it first found none, ms). A line that comes free is
-- kept for whoever has waited longest (turns: business by the time until which, us), for so long:
local TURN = 1000000

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

-- All digits of a time: a number as it is would be cut.
local function score(us)
    return string.format('%.0f', us)
end

local function leave(at, business)
    redis.call('ZREM', at.wanted, business)
    redis.call('HDEL', at.since, business)
end

-- Turns of whoever does not come end; it has no work any more, or comes again.
local function end_turns(at, now_us)
    for _, business in ipairs(redis.call('ZRANGEBYSCORE', at.turns, '-inf', score(now_us))) do
        redis.call('ZREM', at.turns, business)
        leave(at, business)
    end
end

-- Gives n lines that are free to those who wait, until this time, and names them. Only those who waited when the lines came free:
-- so a turn that is handed on comes to everybody once at most.
local function hand_out(at, n, until_us)
    local given = {}
    if n == 0 or redis.call('EXISTS', at.wanted) == 0 then
        return given
    end
    end_turns(at, until_us - TURN)
    local most = n + redis.call('ZCARD', at.turns)
    local waiting = redis.call('ZRANGEBYSCORE', at.wanted, '-inf', score(until_us - TURN), 'LIMIT', 0, most)
    for _, business in ipairs(waiting) do
        if #given < n and not redis.call('ZSCORE', at.turns, business) then
            redis.call('ZADD', at.turns, score(until_us), business)
            given[#given + 1] = business
        end
    end
    return given
end
