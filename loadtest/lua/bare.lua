#!lua name=bare
-- The least that a group of leases costs in the engine: a sorted set of keys by when they are free, and a hash of records.

-- ARGV: ids.
local function create(keys, args)
  for _, id in ipairs(args) do
    redis.call('ZADD', keys[1] .. 'h', 0, id)
    redis.call('HSET', keys[1] .. 'm', id, struct.pack('>I7I5I5', 0, 0, 0))
  end
end

-- ARGV: now, when the leases end, and a fraction for each. Answers with the ids.
local function lease(keys, args)
  local holds, records = keys[1] .. 'h', keys[1] .. 'm'
  local now, till, leased = tonumber(args[1]), tonumber(args[2]), {}
  local free = redis.call('ZCOUNT', holds, '-inf', now)
  for i = 3, #args do
    local rank = math.floor(args[i] * free)
    local id = redis.call('ZRANGE', holds, rank, rank)[1]
    local generation = struct.unpack('>I7', redis.call('HGET', records, id))
    redis.call('ZADD', holds, till, id)
    redis.call('HSET', records, id, struct.pack('>I7I5I5', generation + 1, now, till))
    free = free - 1
    leased[#leased + 1] = id
  end
  return leased
end

-- ARGV: ids.
local function release(keys, args)
  local holds, records = keys[1] .. 'h', keys[1] .. 'm'
  for _, id in ipairs(args) do
    local generation = struct.unpack('>I7', redis.call('HGET', records, id))
    redis.call('ZADD', holds, 0, id)
    redis.call('HSET', records, id, struct.pack('>I7I5I5', generation + 1, 0, 0))
  end
end

redis.register_function('bare_create', create)
redis.register_function('bare_lease', lease)
redis.register_function('bare_release', release)
