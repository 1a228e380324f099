-- Leases: each throws a dart at the free keys of the shard. A dart is a random number of 48 bits, and `bound` the number of
-- free keys that the sender expects at most. If there are fewer, some darts miss, so that each free key of all shards is
-- as likely as any other: rejection sampling.

local DARTS = 2 ^ 48

-- How many keys are free in a sorted set, as far as it says.
local function free_in(zset)
    if now < s[QUARANTINE] then
        return 0
    end
    return call('ZCOUNT', zset, '-inf', now)
end

-- Another number of 48 bits, for a dart that has hit a key that was not free after all.
local function throw_again(dart)
    local high, low = floor(dart / 2 ^ 24), dart % 2 ^ 24
    low = (low * 16598013 + 12820163) % 2 ^ 24
    high = (high * 1140685 + 10571 + low) % 2 ^ 24
    return low * 2 ^ 24 + high
end

-- The key that a dart hits, with its record, and how many keys are free. Without a key, none is free, or the dart missed.
local function draw(zset, free, dart, bound)
    while free > 0 do
        local width = bound > free and bound or free
        local rank = floor(dart / DARTS * width)
        if rank >= free then
            return nil, nil, free
        end
        local short = call('ZRANGE', zset, rank, rank)[1]
        local r = read_record(short)
        if not r then
            call('ZREM', zset, short)
        elseif r[DIES] <= now then
            remove(short, r, EXPIRED)
        elseif r[UNTIL] > now then
            hint(short, r, r[UNTIL])
        else
            if r[UNTIL] > 0 then
                end_over(short, r)
            end
            if r[UNTIL] == 0 then
                return short, r, free
            end
        end
        free, dart, is_changed = free - 1, throw_again(dart), true
    end
    return nil, nil, 0
end

local WITH_LABEL, WITH_INFO = 1, 2

-- lease ms I4, what follows B, [label I2 c0], [lease info], count I2, (dart I6, bound I4) each.
local function lease(args, out)
    local lease_ms, with, at = unpack('>I4B', args, 2)
    local zset, info, darts, label = holds_key, nil, nil, nil
    if with % 2 >= WITH_LABEL then
        label, at = unpack('>I2c0', args, at)
        zset = tag .. 'L' .. label
    end
    if with >= WITH_INFO then
        info, at = unpack('>I2c0', args, at)
    end
    darts, at = unpack('>I2', args, at)
    local free = free_in(zset)
    local till = now + lease_ms
    note_longest(lease_ms)
    for _ = 1, darts do
        local dart, bound, short, r
        dart, bound, at = unpack('>I6I4', args, at)
        short, r, free = draw(zset, free, dart, bound)
        if short then
            local by_time = 2 * micros + 1
            local generation = r[GENERATION] + 1
            r[GENERATION] = generation < by_time and by_time or generation
            r[SINCE], r[UNTIL] = now, till
            if info then
                r[PARTS] = r[PARTS] + HAS_LEASE_INFO
                call('HSET', tag .. 'y', short, info)
                local holder = unpack('>Bc0', info)
                if holder ~= '' then
                    call('ZADD', tag .. 'H', 0, holder .. ' ' .. short)
                end
            end
            write_record(short, r)
            hint(short, r, till)
            count(LEASES)
            free, is_changed = free - 1, true
            local value = value_of(short, r)
            out[#out + 1] = pack('>Bc8c8I7I2c0', OK, short, r[REST], r[GENERATION], #value, value)
        else
            out[#out + 1] = char(free == 0 and EMPTY or MISSED)
        end
    end
    out[#out + 1] = pack('>I4', label and UNKNOWN or free)
end

-- The time of the next end of a lease or cool-down, or NEVER.
local function next_free_at()
    local at = next_in(holds_key)
    if now < s[QUARANTINE] and call('ZCARD', holds_key) > 0 then
        at = s[QUARANTINE]
    end
    return at
end

-- watch ms I4, labels (I2 c0) each. Answers with whether keys may be free of which that is not known, how many are free, when
-- the next one may be, and how many are free with each of the labels.
local function look(args, out)
    local watch_ms, at, label = unpack('>I4', args, 2)
    if watch_ms > 0 and s[WATCH] < now + watch_ms then
        -- Half as much again: one write is enough for several looks.
        s[WATCH], is_changed = now + watch_ms + floor(watch_ms / 2), true
    end
    local is_unsure = now < s[QUARANTINE] and call('ZCARD', holds_key) > 0
    out[#out + 1] = pack('>BI4I5', is_unsure and 1 or 0, free_in(holds_key), next_free_at())
    while at <= #args do
        label, at = unpack('>I2c0', args, at)
        out[#out + 1] = pack('>I4', free_in(tag .. 'L' .. label))
    end
end
