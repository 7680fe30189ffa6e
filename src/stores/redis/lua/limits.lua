-- Takes everything that one request wants of the limits of a service, or nothing.
-- KEYS: when which bucket of the service is full again, and one bucket each. ARGV: the request's place, for how long it is
-- held without word (ms), how many buckets a service may have, and for each bucket `rate`, the debt of a request and of an
-- empty bucket (µs), or `places`, how many there are and nothing.
-- Answers which bucket means the longest wait and how long it is (µs); 0 when everything was taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local buckets, place, held, most = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local SECOND = 1000000
-- Buckets forgotten in one go: no script holds up the server for longer than this takes.
local AT_ONCE = 1000

local function text(number)
  return string.format('%.0f', number)
end

-- Buckets that nobody has yet: this request's new ones.
local new = 0

-- Whether one bucket more fits. None is forgotten for it before it is full.
local function fits()
  local full = redis.call('ZRANGEBYSCORE', buckets, '-inf', text(now), 'LIMIT', 0, AT_ONCE)
  if #full > 0 then
    redis.call('ZREM', buckets, unpack(full))
  end
  new = new + 1
  return redis.call('ZCARD', buckets) + new <= most
end

-- A bucket is its debt, as the moment at which it is full again, with the debt at which it was empty: at another rate the
-- fill stays what it was. Nothing when there is no room for it.
local function debt_of(bucket, span)
  local known = redis.call('GET', bucket)
  if not known then
    return fits() and 0
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
for number = 1, #KEYS - 1 do
  local key, kind = KEYS[number + 1], ARGV[3 * number + 1]
  local one, two = tonumber(ARGV[3 * number + 2]), tonumber(ARGV[3 * number + 3])
  local wait = 0
  if kind == 'rate' then
    local debt = debts[key] and debts[key][1] or debt_of(key, two)
    debts[key] = { (debt or 0) + one, two }
    wait = debt and debt + one - two or SECOND
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
  redis.call('ZADD', buckets, text(full), key)
end
if next(debts) then
  local last = redis.call('ZRANGE', buckets, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIREAT', buckets, text(math.ceil(tonumber(last) / 1000)))
end
for key, places in pairs(taken) do
  for member = 2, #places do
    redis.call('ZADD', key, text(now + held * 1000), places[member])
  end
  redis.call('PEXPIRE', key, held)
end
return { 0, '0' }
