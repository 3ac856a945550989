-- A ticket is good for one connection.
-- KEYS  1 calls:token:{hash}
local ticket = redis.call('GET', KEYS[1])
if ticket then
    redis.call('DEL', KEYS[1])
end
return ticket
