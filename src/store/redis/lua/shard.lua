-- The shard as a whole: opening, configuring, closing and dropping it.

-- lapse cool-down ms I4. Answers with whether it is done: leases that have lapsed before an earlier change must be ended first.
local function configure(args, out)
    local lapse = unpack('>I4', args, 2)
    if lapse ~= s[LAPSE] then
        local oldest = call('ZRANGEBYSCORE', holds(), '(0', s[LAPSE_AT], 'LIMIT', 0, 1)
        if oldest[1] and s[LAPSE_AT] > 0 then
            out[#out + 1] = char(MISSED)
            return
        end
        s[LAPSE_BEFORE], s[LAPSE], s[LAPSE_AT] = s[LAPSE], lapse, now
        is_changed = true
    end
    out[#out + 1] = char(OK)
end

-- whether B only if it is empty. From now on it takes no operation on keys.
local function close(args, out)
    local if_empty = unpack('>B', args, 2)
    if if_empty == 1 and call('ZCARD', holds()) > call('ZCOUNT', lives_key, '-inf', now) then
        out[#out + 1] = char(TAKEN)
        return
    end
    s[OPEN], is_changed, has_news = IS_CLOSING, true, true
    out[#out + 1] = char(OK)
end

local function reopen(_, out)
    s[OPEN], is_changed = IS_OPEN, true
    out[#out + 1] = char(OK)
end

-- How many leases are ended in one step.
local LEASES_MAX = 256

-- Forgets everything. Answers with whether it is done: leases with a quota are ended first.
local function drop(_, out)
    local infos, i = call('HSCAN', tag .. 'y', 0, 'COUNT', LEASES_MAX)[2], 1
    while infos[i] do
        local _, _, quota, nonce = unpack(LEASE_INFO, infos[i + 1])
        if quota ~= '' then
            ended[#ended + 1] = pack('>Bc0c8', #quota, quota, nonce)
        end
        call('HDEL', tag .. 'y', infos[i])
        i = i + 2
    end
    if i > 1 then
        is_changed = true
        out[#out + 1] = char(MISSED)
        return
    end
    for _, label in ipairs(call('HKEYS', tag .. 'n')) do
        call('UNLINK', tag .. 'L' .. label)
    end
    for first = 0, 255 do
        local groups = {}
        for second = 0, 224, 32 do
            groups[#groups + 1] = tag .. 'm' .. char(first, second)
        end
        call('UNLINK', list(groups))
    end
    for name in string.gmatch('hlbxvynHqQrk', '.') do
        call('UNLINK', tag .. name)
    end
    s[OPEN], is_changed = 0, true
    out[#out + 1] = char(OK)
end
