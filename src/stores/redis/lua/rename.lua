-- name, value before, new name, owner, value, end, the table's next number. Replaces, when both names are one.
local name, new = ARGV[1], ARGV[3]
local row = live(name)
if not row or value_of(row) ~= ARGV[2] or (new ~= name and live(new)) then
  return 0
end
forget(name)
put(new, ARGV[4], ARGV[5], ARGV[6])
redis.call('SET', changes, ARGV[7])
return 1
