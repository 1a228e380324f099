-- What several shards or pools share: the list of pools, limits, and quotas. Each is one small set of keys.

-- The time here, never before one that was told, nor before the last one.
local function read_common_clock(key, at_least)
    local last = tonumber(call('GET', key) or 0)
    read_clock(last > at_least and last or at_least)
    if now > last then
        call('SET', key, now)
    end
end

-- KEYS: the table of pools. ARGV: what to do; name; settings; most pools. Or "restore"; version; last serial; and name and row
-- of each pool: the table as a server knows it, if the one here is older, as the engine has lost it. A pool is kept as its serial, whether its shards
-- are open, and its settings. Answers with the time, a version that changes with the table, what became of it, and the table.
-- Or "format" and the one that the server knows: answers with the one that the first server had.
local function pools(keys, args)
    local table_key = keys[1]
    local version_key, serial_key = table_key .. 'v', table_key .. 's'
    if args[1] == 'format' then
        call('SETNX', table_key .. 'f', args[2])
        return call('GET', table_key .. 'f')
    end
    read_common_clock(table_key .. 't', 0)
    local what, answer = args[1], ''
    if what == 'put' then
        local before = call('HGET', table_key, args[2])
        if not before and call('HLEN', table_key) >= tonumber(args[4]) then
            answer = char(TAKEN)
        else
            local is_default = args[2] == 'default'
            local serial = before and unpack('>I4', before) or is_default and 0 or call('INCR', serial_key)
            local is_ready = before and byte(before, 5) or 0
            local after = pack('>I4B', serial, is_ready) .. args[3]
            answer = char(before and KNOWN or OK)
            if before ~= after then
                call('HSET', table_key, args[2], after)
                call('INCR', version_key)
            end
        end
    elseif what == 'ready' then
        local before = call('HGET', table_key, args[2])
        if before and sub(before, 1, 4) == args[3] then
            call('HSET', table_key, args[2], args[3] .. char(1) .. sub(before, 6))
            call('INCR', version_key)
            answer = char(OK)
        else
            answer = char(NOT_FOUND)
        end
    elseif what == 'delete' then
        local before = call('HGET', table_key, args[2])
        if before and sub(before, 1, 4) == args[3] then
            call('HDEL', table_key, args[2])
            call('INCR', version_key)
            answer = char(OK)
        else
            answer = char(NOT_FOUND)
        end
    end
    local version = tonumber(call('GET', version_key) or 0)
    if what == 'restore' and version < tonumber(args[2]) then
        version = tonumber(args[2])
        local serial = math.max(tonumber(args[3]), tonumber(call('GET', serial_key) or 0))
        call('DEL', table_key)
        call('HSET', table_key, list(args, 4))
        call('MSET', version_key, version, serial_key, serial)
    end
    local out = { pack('>I5I6', now, version), answer }
    if what ~= 'version' then
        local all = call('HGETALL', table_key)
        for i = 1, #all, 2 do
            out[#out + 1] = pack('>Bc0Bc0', #all[i], all[i], #all[i + 1], all[i + 1])
        end
    end
    return concat(out)
end

-- KEYS: a limit. ARGV: the sender, how many it has ever used, how many it has asked for and not used, how many more it asks
-- for, and the most that there may be; then perhaps the count of all at a moment when the senders together had used that
-- many. The sum of what is counted and what was asked for is never too small. Answers with whether it may, how many the
-- senders have used together, and how many others have asked for and not used.
local function room(keys, args)
    local key = keys[1]
    local used_key, counted_key = 'used', 'counted'
    local used = tonumber(call('HGET', key, used_key) or 0)
    local counted = tonumber(call('HGET', key, counted_key) or 0)
    local sender, own_used, own_asked = args[1], tonumber(args[2]), tonumber(args[3])
    local more, most = tonumber(args[4]), tonumber(args[5])
    local own = call('HGET', key, 's' .. sender)
    local before_used = own and unpack('>I6I6', own) or 0
    used, counted = used + own_used - before_used, counted + own_used - before_used
    if args[6] then
        -- What was used since may have been counted as well.
        counted = tonumber(args[6]) + used - tonumber(args[7])
    end
    local asked = 0
    local all = call('HGETALL', key)
    local is_crowded = #all > 2 * SENDERS_MAX
    for i = 1, #all, 2 do
        if sub(all[i], 1, 1) == 's' and all[i] ~= 's' .. sender then
            local _, of_other = unpack('>I6I6', all[i + 1])
            asked = asked + of_other
            if is_crowded and of_other == 0 then
                -- If it asks again, what it has used counts twice, until all is counted.
                call('HDEL', key, all[i])
            end
        end
    end
    local may = counted + asked + own_asked + more <= most
    if may then
        own_asked = own_asked + more
    end
    call('HSET', key, used_key, used, counted_key, counted, 's' .. sender, pack('>I6I6', own_used, own_asked))
    return pack('>BI6I6', may and 1 or 0, used, asked)
end

-- KEYS: the labels of a pool. ARGV: the most that there may be, whether these are all that its keys have, and labels.
-- Answers with whether there is room for them.
local function label_room(keys, args)
    local most, is_all = tonumber(args[1]), args[2] == '1'
    if is_all then
        call('DEL', keys[1])
    end
    local new = 0
    for i = 3, #args do
        if call('SISMEMBER', keys[1], args[i]) == 0 then
            new = new + 1
        end
    end
    if not is_all and new > 0 and call('SCARD', keys[1]) + new > most then
        return char(0)
    end
    for i = 3, #args do
        call('SADD', keys[1], args[i])
    end
    return char(1)
end

-- KEYS: a quota. ARGV: what to do, the earliest time that it can be, the most leases, a number for the lease, its end.
-- Answers with whether it may begin, how many leases there are, and when the next one ends.
local function quota(keys, args)
    local key = keys[1]
    read_common_clock(key .. 't', tonumber(args[2]))
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    local what, may = args[1], 1
    local held = call('ZCARD', key)
    if what == 'take' and not call('ZSCORE', key, args[4]) then
        if held < tonumber(args[3]) then
            call('ZADD', key, now + tonumber(args[5]), args[4])
            held = held + 1
        else
            may = 0
        end
    elseif what == 'move' then
        call('ZADD', key, 'XX', now + tonumber(args[5]), args[4])
    elseif what == 'give' then
        held = held - call('ZREM', key, args[4])
    end
    local next_end = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return pack('>BI4I5I5', may, held, now, tonumber(next_end[2] or NEVER))
end

redis.register_function('NAME_pools', named(pools))
redis.register_function('NAME_room', named(room))
redis.register_function('NAME_labels', named(label_room))
redis.register_function('NAME_quota', named(quota))
