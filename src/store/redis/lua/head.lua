-- The part of the store that runs in the engine: one library of functions. Each shard of a pool is a set of keys with one
-- hash tag, and each call executes a group of operations on one shard, at one moment.
--
-- The record of a key is the truth. The sorted sets are hints at it: whoever finds a key there asks its record. A record is
-- written before its hints, so that a call that is cut off leaves no key that is leased and looks free.


-- What the engine has. While a library is loaded, nothing of it is there yet.
local call, try, pack, unpack, list, floor, byte, char, sub, concat

local function bind()
    if call then
        return
    end
    call, try, pack, unpack, list = redis.call, redis.pcall, struct.pack, struct.unpack, _G.unpack
    floor, byte, char, sub, concat = math.floor, string.byte, string.char, string.sub, table.concat
end

-- A function that is registered. Its last argument names the call, and comes back ahead of the answer: so a client that takes the
-- answer to one call for that to another one notices.
local function named(f)
    return function(keys, args)
        bind()
        local name = args[#args]
        args[#args] = nil
        local answer = f(keys, args)
        return type(answer) == 'string' and name .. answer or answer
    end
end

-- Times are milliseconds since 2025-01-01T00:00:00Z.
local EPOCH_S = 1735689600
local NEVER = 2 ^ 40 - 1
-- A count that was not asked for.
local UNKNOWN = 2 ^ 32 - 1

-- How many entries that are due each call handles, and how many more for each operation.
local DUE_BASE, DUE_EACH = 8, 2
-- How many those handle that count what there is.
local STATS_DUE = 64

-- What a call answers before the answers of its operations.
local DONE, LATE, NOT_OPEN = 0, 1, 2
-- What an operation answers first.
local OK, NOT_FOUND, STALE, NOT_LEASED, EMPTY, MISSED, TAKEN, KNOWN = 0, 1, 2, 3, 4, 5, 6, 7

-- The state of a shard: see the indexes below.
local STATE = '>BI5I5I5I5I4I4I5I4I6I6I6I6I6I6I6I6I6I6I6c8'
local STATE_LEN = 21
local OPEN, FLOOR, QUARANTINE, WATCH, NEXT_DUE = 1, 2, 3, 4, 5
local LAPSE, LAPSE_BEFORE, LAPSE_AT, LONGEST = 6, 7, 8, 9
local CREATED, LEASES, RELEASES, TIMEOUTS, LOST, EXPIRED, DELETED = 10, 11, 12, 13, 14, 15, 16
local STALES, COOLDOWNS, COOLDOWN_ENDS, VALUE_BYTES, NODE = 17, 18, 19, 20, 21
-- What OPEN may be. A shard that is closing takes no operation but those that open, close or drop it.
local IS_OPEN, IS_CLOSING = 1, 2

-- The record of a key. A key is leased if its generation is odd, and blocked if UNTIL is not 0. As a table it begins with the
-- string that it was, which begins with the rest of the id, and ends with where it is kept: strings cost the most here.
local RECORD, REST_LEN, FIELDS = '>c10I7I5I5I5I5B', 10, '>I7I5I5I5I5B'
local WAS, GENERATION, MADE, SINCE, UNTIL, DIES, PARTS, GROUP = 1, 2, 3, 4, 5, 6, 7, 8
-- What a key may have beside its record; each has a bit in PARTS.
local HAS_LABELS, HAS_VALUE, HAS_LEASE_INFO = 1, 2, 4

-- The call that is executed: its keys, its time, and its state. The engine executes one at a time.
local tag, state_key, holds_key, lives_key
local s, now, micros, is_changed, has_news, ended
-- The scores that keys get in the set by when they are free, each before its short id, and how many entries that makes.
local hints, hints_len
-- Of the ranks that leases have drawn, the rank that each stands for now: see `draw`.
local moved

-- This process of the engine. Another one may have forgotten writes, or have come from a copy that lacks them.
local node
-- The command that tells others of something: in a cluster only those that have asked the nodes of this shard.
local publish, is_cluster

local function this_node()
    if not node then
        node = sub(string.match(call('INFO', 'server'), 'run_id:(%w+)'), 1, 8)
        is_cluster = string.find(call('INFO', 'cluster'), 'cluster_enabled:1', 1, true)
        publish = is_cluster and 'SPUBLISH' or 'PUBLISH'
    end
    return node
end

-- Whether this shard is about to move to another node, so that some of its keys may be there already: then the engine
-- refuses to look for one that is not here.
local function is_moving()
    return is_cluster and type(try('EXISTS', tag .. '-')) == 'table'
end

local function read_clock(at_least)
    local time = call('TIME')
    micros = (time[1] - EPOCH_S) * 1000000 + time[2]
    now = floor(micros / 1000)
    if now < at_least then
        now, micros = at_least, at_least * 1000
    end
end

-- A new state, of a shard that has never been open.
local function new_state()
    local new = {}
    for i = 1, STATE_LEN - 1 do
        new[i] = 0
    end
    new[NEXT_DUE], new[NODE] = NEVER, this_node()
    return new
end

local function read_state(raw)
    s = { unpack(STATE, raw) }
    s[STATE_LEN + 1] = nil
end

local function write_state()
    call('SET', state_key, pack(STATE, list(s, 1, STATE_LEN)))
end

local function count(what)
    s[what] = s[what] + 1
end

-- The first score of a sorted set behind this time, or NEVER.
local function next_in(zset)
    return tonumber(call('ZRANGEBYSCORE', zset, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or NEVER)
end

-- When a life ends that begins or is kept alive now.
local function life_end(ttl)
    return ttl >= NEVER and NEVER or now + ttl
end

-- Notes how long a lease lasts: a shard in doubt waits for the longest.
local function note_longest(lease_ms)
    if lease_ms > s[LONGEST] then
        s[LONGEST] = lease_ms
    end
end

-- Notes that something is due then.
local function note_due(at)
    if at < s[NEXT_DUE] then
        s[NEXT_DUE] = at
    end
end
