-- Gives places back. KEYS: where; ARGV: the member of each key.
for number, key in ipairs(KEYS) do
  redis.call('ZREM', key, ARGV[number])
end
