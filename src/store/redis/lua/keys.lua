-- Operations on one key.

-- Whether a fence admits a generation: 65535 for any, or how many, and each of them. Also where the arguments go on.
local function admits(args, at, generation)
    local fences, is_admitted, one = nil, false, nil
    fences, at = unpack('>I2', args, at)
    if fences == 65535 then
        return true, at
    end
    for _ = 1, fences do
        one, at = unpack('>I7', args, at)
        is_admitted = is_admitted or one == generation
    end
    return is_admitted, at
end

-- The record of the key of an operation with a fence, or nil after it has been refused.
local function find_fenced(args, at, out)
    local short, rest = unpack('>c6c10', args, 2)
    local r = find(short, rest)
    if not r then
        out[#out + 1] = char(NOT_FOUND)
        return nil
    end
    if not admits(args, at, r[GENERATION]) then
        count(STALES)
        is_changed = true
        out[#out + 1] = char(STALE)
        return nil
    end
    return r, short
end

-- ttl ms I6, (id c16) each. Answers with a byte for each: whether it was taken.
local function create(args, out)
    local ttl, at = unpack('>I6', args, 2)
    local dies = life_end(ttl)
    local scores, lives, short, rest = {}, {}, nil, nil
    out[#out + 1] = pack('>BI5', OK, dies)
    while at <= #args do
        short, rest, at = unpack('>c6c10', args, at)
        local group = group_of(short)
        if call('HSETNX', group, short, pack(RECORD, rest, 0, now, 0, 0, dies, 0)) == 1 then
            scores[#scores + 1], scores[#scores + 2] = free_score(short), short
            lives[#lives + 1], lives[#lives + 2] = dies, short
            count(CREATED)
            out[#out + 1] = char(OK)
        else
            out[#out + 1] = char(TAKEN)
        end
    end
    if #scores == 0 then
        return
    end
    call('ZADD', holds(), list(scores))
    if dies < NEVER then
        call('ZADD', lives_key, list(lives))
        note_due(dies)
    end
    is_changed, has_news = true, true
end

-- The request of a lease, for its entry to move with the end, and its quota.
local function lease_info_for(short, r)
    if not has(r, HAS_LEASE_INFO) then
        return pack('>BB', 0, 0)
    end
    local _, digest, quota, nonce = read_lease_info(short)
    return pack('>Bc0Bc0', #digest, digest, #quota, quota) .. (quota ~= '' and nonce or '')
end

-- id c16, lease ms I4, fence.
local function renew(args, out)
    local r, short = find_fenced(args, 22, out)
    if not r then
        return
    end
    if not is_leased(r) then
        out[#out + 1] = char(NOT_LEASED)
        return
    end
    local lease_ms = unpack('>I4', args, 18)
    note_longest(lease_ms)
    block(short, r, now, now + lease_ms)
    is_changed = true
    out[#out + 1] = pack('>BI7I5', OK, r[GENERATION], r[UNTIL]) .. lease_info_for(short, r)
end

-- id c16, cool-down ms I4, fence.
local function release(args, out)
    local r, short = find_fenced(args, 22, out)
    if not r then
        return
    end
    local cooldown_ms = unpack('>I4', args, 18)
    local was_leased, was_free = is_leased(r), r[UNTIL] == 0
    local till = now + cooldown_ms
    out[#out + 1] = char(OK)
    if cooldown_ms == 0 then
        if not was_free then
            count(was_leased and RELEASES or COOLDOWN_ENDS)
            unblock(short, r)
            is_changed = true
        end
        return
    end
    if not was_free and not was_leased and r[UNTIL] >= till then
        return
    end
    if was_leased then
        count(RELEASES)
        forget_lease_info(short, r)
    end
    if was_leased or was_free then
        count(COOLDOWNS)
        -- Even, as it is not leased.
        r[GENERATION] = r[GENERATION] + (was_leased and 1 or 2)
    end
    block(short, r, now, till)
    is_changed = true
end

-- id c16, ttl ms I6.
local function keep_alive(args, out)
    local short, rest, ttl = unpack('>c6c10I6', args, 2)
    local r = find(short, rest)
    if not r then
        out[#out + 1] = char(NOT_FOUND)
        return
    end
    local dies = life_end(ttl)
    if dies > r[DIES] then
        r[DIES] = dies
        write_record(short, r)
        if dies < NEVER then
            call('ZADD', lives_key, dies, short)
        else
            call('ZREM', lives_key, short)
        end
        is_changed = true
    end
    out[#out + 1] = pack('>BI5', OK, r[DIES])
end

-- id c16, fence.
local function delete(args, out)
    local r, short = find_fenced(args, 18, out)
    if not r then
        return
    end
    remove(short, r, DELETED)
    is_changed = true
    out[#out + 1] = char(OK)
end

-- What is shown of a key, beside its id.
local function shown(short, r)
    local labels, holder = '', ''
    if has(r, HAS_LABELS) then
        labels = call('HGET', tag .. 'b', short)
    end
    if has(r, HAS_LEASE_INFO) then
        holder = read_lease_info(short)
    end
    return pack('>I7I5I5I5I5I2c0Bc0', r[GENERATION], r[MADE], r[SINCE], r[UNTIL], r[DIES],
        #labels, labels, #holder, holder)
end

-- id c16.
local function show(args, out)
    local short, rest = unpack('>c6c10', args, 2)
    local r = find(short, rest)
    out[#out + 1] = r and char(OK) .. shown(short, r) or char(NOT_FOUND)
end

-- id c16, generation I7. Answers with the lease, as when it was given, if it lasts.
local function show_lease(args, out)
    local short, rest, generation = unpack('>c6c10I7', args, 2)
    local r = find(short, rest)
    if not r or r[GENERATION] ~= generation or not is_leased(r) then
        out[#out + 1] = char(NOT_LEASED)
        return
    end
    local value = value_of(short, r)
    out[#out + 1] = pack('>BI5I5I2c0', OK, r[SINCE], r[UNTIL], #value, value)
end

-- id c16, generation I7, whether the request was asked B. A lease that no client has received ends, unless it has a
-- request that must be asked first.
local function give_back(args, out)
    local short, rest, generation, was_asked = unpack('>c6c10I7B', args, 2)
    local r = find(short, rest)
    if not r or r[GENERATION] ~= generation or not is_leased(r) then
        out[#out + 1] = char(NOT_LEASED)
        return
    end
    if was_asked == 0 and has(r, HAS_LEASE_INFO) then
        local _, digest = read_lease_info(short)
        if digest ~= '' then
            out[#out + 1] = char(KNOWN) .. digest
            return
        end
    end
    count(RELEASES)
    unblock(short, r)
    is_changed = true
    out[#out + 1] = char(OK)
end

-- begun before I5, cursor I2 c0, limit I2, holder B c0. Takes back leases of a holder. Answers with how many, and where to go on.
local function take_back(args, out)
    local before, cursor, limit, holder = unpack('>I5I2c0I2Bc0', args, 2)
    local from = cursor == '' and '[' .. holder .. ' ' or '(' .. cursor
    local found = call('ZRANGEBYLEX', tag .. 'H', from, '(' .. holder .. '!', 'LIMIT', 0, limit)
    local taken = 0
    for _, member in ipairs(found) do
        local short = sub(member, -SHORT_LEN)
        local r = find(short)
        if not r then
            call('ZREM', tag .. 'H', member)
        elseif #member == #holder + 1 + SHORT_LEN and is_leased(r) and r[SINCE] <= before then
            count(RELEASES)
            unblock(short, r)
            taken = taken + 1
        end
    end
    is_changed = is_changed or #found > 0
    local last = #found == limit and found[#found] or ''
    out[#out + 1] = pack('>BI4I2c0', OK, taken, #last, last)
end
