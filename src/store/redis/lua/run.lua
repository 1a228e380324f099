-- Executes a group of operations. KEYS: the state of the shard. ARGV: the head, then the operations.

local operations = {
    create, lease, renew, release, keep_alive, delete, show, show_lease, give_back, take_back, look, stats, inventory,
    find_values, import, labels, begin_request, settle_request, give_up_request, configure, close, reopen, drop,
}
local FIRST_OF_SHARD = 21

local function head_of(status, more)
    return pack('>BI5B', status, now, more)
end

-- sender c8, call I6 (0 for one that writes nothing), deadline I5, longest lease I4, open B, at least I5.
local HEAD = '>c8I6I5I4BI5'
local MAY_OPEN, MAY_CREATE = 1, 2

-- How many senders are remembered before some are forgotten, and for how long each is at least, in milliseconds: much
-- longer than anything that it may repeat.
local SENDERS_MAX, SENDER_MS = 32, 3600000

-- Forgets the last calls of servers that have been silent for long.
local function forget_senders()
    local key = tag .. 'c'
    if call('HLEN', key) <= SENDERS_MAX then
        return
    end
    local all = call('HGETALL', key)
    for i = 1, #all, 2 do
        local _, at = unpack('>I6I5', all[i + 1])
        if at + SENDER_MS < now then
            call('HDEL', key, all[i])
        end
    end
end

local function run(keys, args)
    state_key = keys[1]
    tag = sub(state_key, 1, -2)
    holds_key, lives_key = tag .. 'h', tag .. 'l'
    is_changed, has_news, ended = false, false, {}
    hints, hints_len = {}, 0
    this_node()
    if is_moving() then
        return redis.error_reply('TRYAGAIN the shard is moving to another node')
    end
    local sender, number, deadline, longest, opening, at_least = unpack(HEAD, args[1])
    local raw = call('GET', state_key)
    if raw then
        read_state(raw)
    else
        s = new_state()
    end
    read_clock(s[FLOOR] > at_least and s[FLOOR] or at_least)
    if number > 0 then
        local last = call('HGET', tag .. 'c', sender)
        local last_number = last and unpack('>I6', last) or 0
        if last_number == number then
            -- Written again, so that WAIT waits for it, whichever connection had sent it before.
            call('HSET', tag .. 'c', sender, last)
            return sub(last, 12)
        elseif last_number > number then
            -- A copy of a call that was repeated meanwhile, and is long done.
            return head_of(LATE, 0)
        end
    end
    if deadline > 0 and now > deadline then
        return head_of(LATE, 0)
    end
    if s[OPEN] == 0 and opening > 0 then
        s[OPEN], is_changed = IS_OPEN, true
        if opening == MAY_OPEN then
            -- It was open before, and is lost.
            s[QUARANTINE] = now + longest
        end
    end
    if s[OPEN] ~= IS_OPEN and not (s[OPEN] == IS_CLOSING and args[2] and byte(args[2]) >= FIRST_OF_SHARD) then
        return head_of(NOT_OPEN, s[OPEN])
    end
    if s[NODE] ~= node then
        s[NODE], is_changed = node, true
        s[QUARANTINE] = now + (s[LONGEST] > longest and s[LONGEST] or longest)
    end
    local more = settle_due(DUE_BASE + DUE_EACH * #args)
    local out = { '' }
    for i = 2, #args do
        operations[byte(args[i])](args[i], out)
    end
    holds()
    if has_news and s[WATCH] > now then
        call(publish, tag, sender)
    end
    if s[OPEN] == 0 then
        -- It was dropped.
        call('DEL', state_key, tag .. 'c')
        return head_of(DONE, 0) .. pack('>I2', 0) .. concat(out)
    end
    if is_changed or now > s[FLOOR] then
        s[FLOOR] = now
        write_state()
    end
    out[1] = head_of(DONE, more and 1 or 0) .. pack('>I2', #ended) .. concat(ended)
    local answer = concat(out)
    -- Also if it has changed nothing: a copy of it might.
    if number > 0 then
        if call('HSET', tag .. 'c', sender, pack('>I6I5', number, now) .. answer) == 1 then
            forget_senders()
        end
    end
    return answer
end

-- The one for operations that need more memory is refused while the engine has none left; the others must go on.
redis.register_function({ function_name = 'NAME_run', callback = named(run), flags = { 'allow-oom' } })
redis.register_function('NAME_grow', named(run))
