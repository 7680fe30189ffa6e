-- Takes everything that one request wants of the limits of a service, or nothing.
-- KEYS: one bucket each. ARGV: the request's place, for how long it is held without word (ms), and for each key `rate`, the
-- debt of a request and of an empty bucket (µs), or `places`, how many there are and nothing.
-- Answers which key means the longest wait and how long it is (µs); 0 when everything was taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local place, held = ARGV[1], tonumber(ARGV[2])
local SECOND = 1000000

local function text(number)
  return string.format('%.0f', number)
end

-- A bucket is its debt, as the moment at which it is full again, with the debt at which it was empty: at another rate the
-- fill stays what it was.
local function debt_of(bucket, span)
  local known = redis.call('GET', bucket)
  if not known then
    return 0
  end
  local full, empty = string.match(known, '^(%d+) (%d+)$')
  local debt = math.max(0, tonumber(full) - now)
  empty = tonumber(empty)
  if empty ~= span then
    debt = math.floor(debt * (span / empty))
  end
  return debt
end

local debts, taken = {}, {}
local at, longest, order = 0, 0, 0
for number, key in ipairs(KEYS) do
  local kind, one, two = ARGV[3 * number], tonumber(ARGV[3 * number + 1]), tonumber(ARGV[3 * number + 2])
  local wait = 0
  if kind == 'rate' then
    local debt = (debts[key] and debts[key][1] or debt_of(key, two)) + one
    debts[key] = { debt, two }
    wait = debt - two
  else
    if not taken[key] then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
      taken[key] = { redis.call('ZCARD', key) }
    end
    order = order + 1
    table.insert(taken[key], place .. order)
    wait = taken[key][1] + #taken[key] - 1 > one and SECOND or 0
  end
  if wait > longest then
    at, longest = number, wait
  end
end
if at > 0 then
  return { at, text(longest) }
end
for key, debt in pairs(debts) do
  local full = now + debt[1]
  redis.call('SET', key, text(full) .. ' ' .. text(debt[2]), 'PXAT', text(math.ceil(full / 1000)))
end
for key, places in pairs(taken) do
  for member = 2, #places do
    redis.call('ZADD', key, text(now + held * 1000), places[member])
  end
  redis.call('PEXPIRE', key, held)
end
return { 0, '0' }
