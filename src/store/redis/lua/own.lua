-- Imports, lists, counts, and requests that may be repeated.

-- (digest c16) each. Answers with the ids of the keys that have these values.
local function find_values(args, out)
    local at, digest = 2, nil
    while at <= #args do
        digest, at = unpack('>c16', args, at)
        local short = call('HGET', tag .. 'v', digest)
        local r = short and find(short)
        out[#out + 1] = r and pack('>Bc6c10', KNOWN, short, r[WAS]) or char(OK)
    end
end

-- ttl I6, (id c16, digest c16, labels I2 c0, value I2 c0) each. `labels` is as it is kept: (I2 c0) each.
local function import(args, out)
    local ttl, at = unpack('>I6', args, 2)
    local dies = life_end(ttl)
    local short, rest, digest, labels, value
    out[#out + 1] = pack('>BI5', OK, dies)
    while at <= #args do
        short, rest, digest, labels, value, at = unpack('>c6c10c16I2c0I2c0', args, at)
        local known = call('HGET', tag .. 'v', digest)
        local r = known and find(known)
        if r then
            out[#out + 1] = pack('>Bc6c10', KNOWN, known, r[WAS])
        elseif call('HEXISTS', group_of(short), short) == 1 then
            out[#out + 1] = char(TAKEN)
        else
            local parts = HAS_VALUE + (labels ~= '' and HAS_LABELS or 0)
            r = { rest, 0, now, 0, 0, dies, parts, group_of(short) }
            write_record(short, r)
            call('HSET', tag .. 'x', short, digest .. value)
            call('HSET', tag .. 'v', digest, short)
            s[VALUE_BYTES] = s[VALUE_BYTES] + #value
            if labels ~= '' then
                call('HSET', tag .. 'b', short, labels)
                for _, label in ipairs(labels_of(short)) do
                    call('HINCRBY', tag .. 'n', label, 1)
                end
            end
            hint(short, r, 0)
            if dies < NEVER then
                call('ZADD', lives_key, dies, short)
                note_due(dies)
            end
            count(CREATED)
            is_changed, has_news = true, true
            out[#out + 1] = char(OK)
        end
    end
end

-- The short ids behind `after` of one group, sorted.
local function sorted_behind(shorts, after)
    local behind = {}
    for _, short in ipairs(shorts) do
        if short > after then
            behind[#behind + 1] = short
        end
    end
    table.sort(behind)
    return behind
end

-- How many keys of a small shard are listed without a look at its groups, and how many groups a page looks at.
local SMALL, GROUPS_MAX = 1024, 256

-- after c0 (none, or a short id) I1, limit I2. Answers with whether that was all and where to go on, and each key.
local function inventory(args, out)
    local after, limit = unpack('>Bc0I2', args, 2)
    local found, last, is_end = {}, after, false
    local function take(shorts)
        for _, short in ipairs(shorts) do
            if #found == limit then
                return false
            end
            local r = find(short)
            if r then
                found[#found + 1] = short .. rest_of(r) .. shown(short, r)
            end
            last = short
        end
        return true
    end
    if call('ZCARD', holds()) <= SMALL then
        is_end = take(sorted_behind(call('ZRANGE', holds(), 0, -1), after))
    else
        local first, second = 0, 0
        if after ~= '' then
            first, second = byte(after, 1, 2)
        end
        local group = first * 8 + floor(second / 32)
        for _ = 1, GROUPS_MAX do
            local name = char(floor(group / 8), group % 8 * 32)
            if not take(sorted_behind(call('HKEYS', tag .. 'm' .. name), after)) then
                break
            end
            -- Behind all of this group.
            last = name:sub(1, 1) .. char(group % 8 * 32 + 31) .. string.rep('\255', SHORT_LEN - 2)
            group = group + 1
            is_end = group == 2048
            if is_end then
                break
            end
        end
    end
    out[#out + 1] = pack('>BBBc0I2', OK, is_end and 1 or 0, #last, last, #found)
    out[#out + 1] = concat(found)
end

-- Answers with whether more is due, with how many keys live, with when the next one dies, with the bytes of all values, and
-- with the totals.
local function stats(_, out)
    settle_due(STATS_DUE)
    local living = call('ZCARD', holds()) - call('ZCOUNT', lives_key, '-inf', now)
    out[#out + 1] = pack('>BI4I5I6' .. string.rep('I6', 10), s[NEXT_DUE] <= now and 1 or 0, living, next_in(lives_key), s[VALUE_BYTES],
        list(s, CREATED, COOLDOWN_ENDS))
end

-- Answers with the labels that keys have.
local function labels(_, out)
    local all = call('HKEYS', tag .. 'n')
    out[#out + 1] = pack('>BI4', OK, #all)
    for _, label in ipairs(all) do
        out[#out + 1] = pack('>I2c0', #label, label)
    end
end

-- The entry of a request: what it asks for, until when it is kept, and the lease that it has got, if it has.
local ENTRY = '>c20I5Bc16I7B'
local WAITS, HAS_GOT = 0, 1

local function read_entry(digest)
    local raw = call('HGET', tag .. 'q', digest)
    return raw and { unpack(ENTRY, raw) }
end

local function write_entry(digest, e)
    call('HSET', tag .. 'q', digest, pack(ENTRY, e[1], e[2], e[3], e[4], e[5], e[6]))
    call('ZADD', tag .. 'Q', e[2], digest)
    is_changed = true
end

local function drop_entry(digest)
    call('HDEL', tag .. 'q', digest)
    call('ZREM', tag .. 'Q', digest)
    is_changed = true
end

-- digest c16, parameters c20, until I5, over generation I7, [how long it stays with a lease I5, lease]. Begins a request unless
-- it has begun. An entry whose lease had that generation is known to be over. A lease that follows is tried at once.
local function begin_request(args, out)
    local digest, parameters, till, over, at = unpack('>c16c20I5I7', args, 2)
    for _, old in ipairs(call('ZRANGEBYSCORE', tag .. 'Q', '-inf', now, 'LIMIT', 0, 4)) do
        drop_entry(old)
    end
    local e = read_entry(digest)
    local is_same = e and e[1] == parameters
    if e and e[3] == HAS_GOT and e[5] ~= over then
        e[6] = 1
        write_entry(digest, e)
        out[#out + 1] = pack('>BBc16I7', KNOWN, is_same and 1 or 0, e[4], e[5])
    elseif e and e[3] == WAITS then
        out[#out + 1] = char(is_same and TAKEN or STALE)
    else
        e = { parameters, till, WAITS, string.rep('\0', 16), 0, 0 }
        out[#out + 1] = char(OK)
        if at <= #args then
            local stays_ms, first = unpack('>I5', args, at)
            local short, r = lease(sub(args, first), out)
            if short then
                e[2], e[3], e[4], e[5] = now + stays_ms, HAS_GOT, short .. rest_of(r), r[GENERATION]
            end
        end
        write_entry(digest, e)
    end
end

-- digest c16, until I5, id c16, generation I7. The request has got this lease. Without one, its entry goes.
local function settle_request(args, out)
    local digest, till, id, generation = unpack('>c16I5c16I7', args, 2)
    local e = read_entry(digest)
    if e and generation == 0 and e[3] == WAITS then
        drop_entry(digest)
    elseif e and generation > 0 then
        e[2], e[3], e[4], e[5] = till, HAS_GOT, id, generation
        write_entry(digest, e)
    end
    out[#out + 1] = char(OK)
end

-- digest c16, generation I7. Whether the lease of a request may be taken back: if so, no retry gets it.
local function give_up_request(args, out)
    local digest, generation = unpack('>c16I7', args, 2)
    local e = read_entry(digest)
    local is_its = e and e[3] == HAS_GOT and e[5] == generation
    if is_its and e[6] == 1 then
        out[#out + 1] = char(TAKEN)
        return
    end
    if is_its then
        drop_entry(digest)
    end
    out[#out + 1] = char(OK)
end
