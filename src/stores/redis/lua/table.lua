-- One table is four keys of one slot: its rows by name, with the owner's name before the value; the second at which each
-- ends; how many each owner has; and a number that changes with the table. Every script begins with this.
local rows, ends, owners, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local OWNER = 32

-- The owner and value of a row that lives, and its end.
local function live(name)
  local last = redis.call('ZSCORE', ends, name)
  if last and tonumber(last) > now then
    return redis.call('HGET', rows, name), last
  end
  return false
end

local function value_of(row)
  return string.sub(row, OWNER + 1)
end

local function forget(name)
  local row = redis.call('HGET', rows, name)
  if not row then
    return
  end
  local owner = string.sub(row, 1, OWNER)
  redis.call('HDEL', rows, name)
  redis.call('ZREM', ends, name)
  if redis.call('HINCRBY', owners, owner, -1) <= 0 then
    redis.call('HDEL', owners, owner)
  end
end

local function put(name, owner, value, last)
  forget(name)
  redis.call('HSET', rows, name, owner .. value)
  redis.call('ZADD', ends, last, name)
  redis.call('HINCRBY', owners, owner, 1)
end
