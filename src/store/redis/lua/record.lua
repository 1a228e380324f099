-- The record of a key, its hints, and what it has beside them. A short id is the part of an id
-- that is in the sets, so short that the engine has 8 bytes for it; the rest is in the record.
local SHORT_LEN = 6

-- Records are in hashes that are so small that the engine keeps each as a compact list.
local function group_of(short)
    local first, second = byte(short, 1, 2)
    return tag .. 'm' .. char(first, second - second % 32)
end

local function read_record(short)
    local group = group_of(short)
    local raw = call('HGET', group, short)
    if raw then
        local r = { raw, unpack(FIELDS, raw, 1 + REST_LEN) }
        r[GROUP] = group
        return r
    end
end

-- Writes a record, and returns what is written.
local function write_record(short, r)
    local raw = pack(RECORD, r[1], r[2], r[3], r[4], r[5], r[6], r[7])
    call('HSET', r[GROUP], short, raw)
    return raw
end

local function rest_of(r)
    return sub(r[WAS], 1, REST_LEN)
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

-- The score of a free key: one of its own, so that the engine finds it by numbers alone. It is below 0, where nothing is due.
local function free_score(short)
    return -1 - unpack('>I3', short)
end

-- The most entries that one command gets: a function of Lua takes no more than 8,000.
local HINTS_MAX = 1024

-- The sorted set of keys by when they are free, with all that was said of it.
local function holds()
    if hints_len > 0 then
        local waiting = hints
        hints, hints_len, moved = {}, 0, {}
        call('ZADD', holds_key, list(waiting))
    end
    return holds_key
end

-- Says in the sorted sets when the key is free: 0 if it is. The set of all keys is told at the end, in one command.
local function hint(short, r, at)
    local score = at == 0 and free_score(short) or at
    hints[hints_len + 1], hints[hints_len + 2] = score, short
    hints_len = hints_len + 2
    if hints_len >= HINTS_MAX then
        holds()
    end
    if has(r, HAS_LABELS) then
        for _, label in ipairs(labels_of(short)) do
            call('ZADD', tag .. 'L' .. label, score, short)
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
    call('HDEL', r[GROUP], short)
    call('ZREM', holds(), short)
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

-- The record of a living key as it is now, or nil. With the rest of an id, only that of the key with that one.
local function find(short, rest)
    local r = read_record(short)
    if not r or rest and rest_of(r) ~= rest then
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
    local over = call('ZRANGEBYSCORE', holds(), '(0', now, 'LIMIT', 0, limit)
    for _, short in ipairs(over) do
        local r = read_record(short)
        if not r then
            call('ZREM', holds(), short)
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
    note_due(next_in(holds()))
    return false
end
