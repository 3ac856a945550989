-- Something became known of a call: the process that has it is told, over a list of its own that it blocks on. Where nobody has
-- it, whoever takes it next reads it in the ledger.
-- KEYS  1 calls:lease:{call}     ARGV  1 call id  2 the list, but for the name of the process  3 ttl of the list, s
-- Returns 1 where somebody is told.
local replica = redis.call('HGET', KEYS[1], 'replica')
if not replica then
    return 0
end
local list = ARGV[2] .. replica
redis.call('RPUSH', list, ARGV[1])
redis.call('EXPIRE', list, ARGV[3])
return 1
