-- Says that places are still held, again for so long (ms). KEYS: where; ARGV: how long, and the member of each key.
local time = redis.call('TIME')
local last = string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[1] * 1000)
for number, key in ipairs(KEYS) do
  redis.call('ZADD', key, last, ARGV[number + 1])
  redis.call('PEXPIRE', key, ARGV[1])
end
