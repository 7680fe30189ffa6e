-- name
local row = live(ARGV[1])
return row and value_of(row)
