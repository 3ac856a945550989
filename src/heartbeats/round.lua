-- Writes down that a round has ended now.
-- KEYS  1 rounds     ARGV  1 its name
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], time[1] * 1000 + math.floor(time[2] / 1000))
return redis.status_reply('OK')
