-- The record of a key, its hints, and what it has beside them. A short id is half of an id; the other half is in the record.

-- Records are in hashes that are so small that the engine keeps each as a compact list.
local function group_of(short)
    local first, second = byte(short, 1, 2)
    return tag .. 'm' .. char(first, second - second % 32)
end

local function read_record(short)
    local raw = call('HGET', group_of(short), short)
    return raw and { unpack(RECORD, raw) }
end

local function write_record(short, r)
    call('HSET', group_of(short), short, pack(RECORD, r[1], r[2], r[3], r[4], r[5], r[6], r[7]))
end

local function has(r, part)
    return r[PARTS] % (2 * part) >= part
end

local function labels_of(short)
    local raw, labels, at, text = call('HGET', tag .. 'b', short), {}, 1, nil
    while raw and at <= #raw do
        text, at = unpack('>I2c0', raw, at)
        labels[#labels + 1] = text
    end
    return labels
end

-- Says in the sorted sets when the key is free: 0 if it is.
local function hint(short, r, at)
    call('ZADD', holds_key, at, short)
    if has(r, HAS_LABELS) then
        for _, label in ipairs(labels_of(short)) do
            call('ZADD', tag .. 'L' .. label, at, short)
        end
    end
    if at > 0 then
        note_due(at)
    end
end

-- The value of a key, or ''.
local function value_of(short, r)
    return has(r, HAS_VALUE) and sub(call('HGET', tag .. 'x', short), 17) or ''
end

local LEASE_INFO = '>Bc0Bc0Bc0Bc0'

local function read_lease_info(short)
    return unpack(LEASE_INFO, call('HGET', tag .. 'y', short))
end

-- A lease has ended: its holder, its request and its quota have nothing to do with the key any more.
local function forget_lease_info(short, r)
    if not has(r, HAS_LEASE_INFO) then
        return
    end
    local holder, _, quota, nonce = read_lease_info(short)
    call('HDEL', tag .. 'y', short)
    if holder ~= '' then
        call('ZREM', tag .. 'H', holder .. ' ' .. short)
    end
    if quota ~= '' then
        ended[#ended + 1] = pack('>Bc0c8', #quota, quota, nonce)
    end
    r[PARTS] = r[PARTS] - HAS_LEASE_INFO
end

local function is_leased(r)
    return r[GENERATION] % 2 == 1
end

-- The key is free now.
local function unblock(short, r)
    if is_leased(r) then
        r[GENERATION] = r[GENERATION] + 1
        forget_lease_info(short, r)
    end
    r[SINCE], r[UNTIL] = 0, 0
    write_record(short, r)
    hint(short, r, 0)
    has_news = true
end

-- The key is blocked from `since` to `till`.
local function block(short, r, since, till)
    if till < r[UNTIL] then
        has_news = true
    end
    r[SINCE], r[UNTIL] = since, till
    write_record(short, r)
    hint(short, r, till)
end

-- Ends a lease or cool-down whose time is over.
local function end_over(short, r)
    if not is_leased(r) then
        count(COOLDOWN_ENDS)
        return unblock(short, r)
    end
    count(TIMEOUTS)
    local over = r[UNTIL]
    local rests_until = over + (over > s[LAPSE_AT] and s[LAPSE] or s[LAPSE_BEFORE])
    if rests_until <= now then
        return unblock(short, r)
    end
    count(COOLDOWNS)
    r[GENERATION] = r[GENERATION] + 1
    forget_lease_info(short, r)
    block(short, r, over, rests_until)
end

-- Removes a key; `why` counts it.
local function remove(short, r, why)
    count(why)
    if r[UNTIL] > 0 then
        local is_over = r[UNTIL] <= now and r[UNTIL] <= r[DIES]
        count(not is_leased(r) and COOLDOWN_ENDS or is_over and TIMEOUTS or LOST)
    end
    call('HDEL', group_of(short), short)
    call('ZREM', holds_key, short)
    call('ZREM', lives_key, short)
    forget_lease_info(short, r)
    if has(r, HAS_LABELS) then
        for _, label in ipairs(labels_of(short)) do
            call('ZREM', tag .. 'L' .. label, short)
            if call('HINCRBY', tag .. 'n', label, -1) == 0 then
                call('HDEL', tag .. 'n', label)
            end
        end
        call('HDEL', tag .. 'b', short)
    end
    if has(r, HAS_VALUE) then
        local value = call('HGET', tag .. 'x', short)
        call('HDEL', tag .. 'x', short)
        call('HDEL', tag .. 'v', sub(value, 1, 16))
        s[VALUE_BYTES] = s[VALUE_BYTES] - (#value - 16)
    end
end

-- The record of a living key as it is now, or nil.
local function find(short, rest)
    local r = read_record(short)
    if not r or r[REST] ~= rest then
        return nil
    end
    if r[DIES] <= now then
        remove(short, r, EXPIRED)
        is_changed = true
        return nil
    end
    if r[UNTIL] > 0 and r[UNTIL] <= now then
        end_over(short, r)
        is_changed = true
    end
    return r
end

-- Handles some of what is due, and returns whether more is.
local function settle_due(limit)
    if now < s[NEXT_DUE] then
        return false
    end
    is_changed = true
    local dead = call('ZRANGEBYSCORE', lives_key, '-inf', now, 'LIMIT', 0, limit)
    for _, short in ipairs(dead) do
        local r = read_record(short)
        if not r then
            call('ZREM', lives_key, short)
        elseif r[DIES] <= now then
            remove(short, r, EXPIRED)
        else
            call('ZADD', lives_key, r[DIES], short)
        end
    end
    local over = call('ZRANGEBYSCORE', holds_key, '(0', now, 'LIMIT', 0, limit)
    for _, short in ipairs(over) do
        local r = read_record(short)
        if not r then
            call('ZREM', holds_key, short)
        elseif r[UNTIL] > 0 and r[UNTIL] <= now then
            end_over(short, r)
        else
            hint(short, r, r[UNTIL])
        end
    end
    if #dead == limit or #over == limit then
        return true
    end
    s[NEXT_DUE] = NEVER
    note_due(next_in(lives_key))
    note_due(next_in(holds_key))
    return false
end
