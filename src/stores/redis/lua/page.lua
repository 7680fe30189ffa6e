-- cursor. Answers the next cursor, and then name, end and row of each that lives.
local scanned = redis.call('HSCAN', rows, ARGV[1], 'COUNT', 500)
local page = { scanned[1] }
for place = 1, #scanned[2], 2 do
  local name, row = scanned[2][place], scanned[2][place + 1]
  local last = redis.call('ZSCORE', ends, name)
  if last and tonumber(last) > now then
    page[#page + 1] = name
    page[#page + 1] = last
    page[#page + 1] = row
  end
end
return page
