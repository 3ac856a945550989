-- Who talks to an agent, and by which accounts at voice providers: the beginning of the scripts that count them.
-- lines:talking has all of them, lines:talking:<account> those that use it, lines:talking:accounts the accounts that somebody uses, or used until
-- the last look for what is foreign (foreign.lua).
-- What gate:holders says of one ends with its accounts, so that whoever frees it need not know them.

-- What a conversation takes one of, from ARGV[at] on: how many, then the account and how many it allows at once, of each. No
-- account: the room of all calls programs. Returns these, and the place behind them.
local function rooms_from(at)
    local rooms = {}
    for i = at + 1, at + 2 * tonumber(ARGV[at]), 2 do
        rooms[#rooms + 1] = {account = ARGV[i], most = tonumber(ARGV[i + 1])}
    end
    return rooms, at + 1 + 2 * #rooms
end

local function key_of(talking, account)
    return account == '' and talking or talking .. ':' .. account
end

-- True where one more has no room. With an attempt: where it is not counted there already.
local function is_full(talking, rooms, attempt)
    for _, room in ipairs(rooms) do
        local key = key_of(talking, room.account)
        if not (attempt and redis.call('SISMEMBER', key, attempt) == 1) and redis.call('SCARD', key) >= room.most then
            return true
        end
    end
    return false
end

-- It is not counted any more, as far as its holder says where it is.
local function silence(talking, holders, attempt)
    local holder = redis.call('HGET', holders, attempt) or ''
    for account in string.gmatch(string.match(holder, '^[^:]*:[^:]*:[^:]*:[^:]*:(.+)$') or '', '[^,]+') do
        redis.call('SREM', key_of(talking, account), attempt)
    end
    redis.call('SREM', talking, attempt)
end

-- It is counted in these rooms and in no other. Its holder is there.
local function talk(talking, holders, rooms, attempt)
    silence(talking, holders, attempt)
    local accounts = {}
    for _, room in ipairs(rooms) do
        redis.call('SADD', key_of(talking, room.account), attempt)
        if room.account ~= '' then
            accounts[#accounts + 1] = room.account
            redis.call('SADD', talking .. ':accounts', room.account)
        end
    end
    local holder = string.match(redis.call('HGET', holders, attempt), '^[^:]*:[^:]*:[^:]*:[^:]*')
    redis.call('HSET', holders, attempt, #accounts > 0 and holder .. ':' .. table.concat(accounts, ',') or holder)
end
