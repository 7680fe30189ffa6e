-- name, owner, value, end, rows of the table at most, of one owner at most, the table's next number
local name, owner, most, share = ARGV[1], ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6])
-- Rows forgotten in one go: no script holds up the server for longer than this takes.
local AT_ONCE = 1000
if live(name) then
  return 1
end
local expired = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, AT_ONCE)
for _, gone in ipairs(expired) do
  forget(gone)
end
if redis.call('ZCARD', ends) >= most or tonumber(redis.call('HGET', owners, owner) or 0) >= share then
  -- What has expired takes nobody's place: ask again until none of it is left.
  return #expired == AT_ONCE and 3 or 2
end
put(name, owner, ARGV[3], ARGV[4])
redis.call('SET', changes, ARGV[7])
return 0
