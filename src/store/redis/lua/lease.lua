-- Leases: each throws a dart at the free keys of the shard. A dart is a random number of 48 bits, and `bound` the number of
-- free keys that the sender expects at most. If there are fewer, some darts miss, so that each free key of all shards is
-- as likely as any other: rejection sampling.

local DARTS = 2 ^ 48

-- The set of free keys that is drawn from, and how many are free. What is drawn stays in the set until the end, as ranks are
-- shuffled instead (Fisher and Yates).
local zset, free

-- How many keys are free in a sorted set, as far as it says.
local function free_in(set)
    if now < s[QUARANTINE] then
        return 0
    end
    return call('ZCOUNT', set, '-inf', now)
end

local function start_to_draw(label)
    local all = holds()
    zset = label and tag .. 'L' .. label or all
    free, moved = free_in(zset), {}
end

-- Another number of 48 bits, for a dart that has hit a key that was not free after all.
local function throw_again(dart)
    local high, low = floor(dart / 2 ^ 24), dart % 2 ^ 24
    low = (low * 16598013 + 12820163) % 2 ^ 24
    high = (high * 1140685 + 10571 + low) % 2 ^ 24
    return low * 2 ^ 24 + high
end

-- The key that a dart hits, with its record. Without one, none is free, or the dart missed.
local function draw(label, dart, bound)
    while free > 0 do
        local width = bound > free and bound or free
        local rank = floor(dart / DARTS * width)
        if rank >= free then
            return nil
        end
        local at = moved[rank] or rank
        local short = call('ZRANGE', zset, at, at)[1]
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
                free = free - 1
                moved[rank] = moved[free] or free
                return short, r
            end
        end
        dart, is_changed = throw_again(dart), true
        start_to_draw(label)
    end
    return nil
end

local WITH_LABEL, WITH_INFO = 1, 2

-- What an answer says of a key without a value.
local NO_VALUE = '\0\0'

-- lease ms I4, what follows B, [label I2 c0], [lease info], count I2, (dart I6, bound I4) each. Returns the last key that was
-- leased, and its record.
local function lease(args, out)
    local lease_ms, with, at = unpack('>I4B', args, 2)
    local last, record
    local info, darts, label = nil, nil, nil
    if with % 2 >= WITH_LABEL then
        label, at = unpack('>I2c0', args, at)
    end
    if with >= WITH_INFO then
        info, at = unpack('>I2c0', args, at)
    end
    darts, at = unpack('>I2', args, at)
    start_to_draw(label)
    local till, by_time = now + lease_ms, 2 * micros + 1
    note_longest(lease_ms)
    for _ = 1, darts do
        local dart, bound, short, r
        dart, bound, at = unpack('>I6I4', args, at)
        short, r = draw(label, dart, bound)
        if short then
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
            local written = write_record(short, r)
            hint(short, r, till)
            if label then
                -- Its label knows it already.
                moved = {}
            end
            count(LEASES)
            is_changed = true
            last, record = short, r
            local value = has(r, HAS_VALUE) and value_of(short, r)
            local n = #out
            out[n + 1], out[n + 2], out[n + 3] = char(OK), short, written
            out[n + 4] = value and pack('>I2c0', #value, value) or NO_VALUE
        else
            out[#out + 1] = char(free == 0 and EMPTY or MISSED)
        end
    end
    out[#out + 1] = pack('>I4', label and UNKNOWN or free)
    return last, record
end

-- The time of the next end of a lease or cool-down, or NEVER.
local function next_free_at()
    local at = next_in(holds())
    if now < s[QUARANTINE] and call('ZCARD', holds()) > 0 then
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
    local is_unsure = now < s[QUARANTINE] and call('ZCARD', holds()) > 0
    out[#out + 1] = pack('>BI4I5', is_unsure and 1 or 0, free_in(holds()), next_free_at())
    while at <= #args do
        label, at = unpack('>I2c0', args, at)
        out[#out + 1] = pack('>I4', free_in(tag .. 'L' .. label))
    end
end
