-- name, the table's next number
local row = live(ARGV[1])
forget(ARGV[1])
if row then
  redis.call('SET', changes, ARGV[2])
end
return row and value_of(row)
