-- Lease a key, keep it alive, release it: with the id taken from the answer to the lease.
-- wrk does not say which connection an answer belongs to, so ids go through a queue: each is
-- kept alive once and released once, by whichever connection is next.

local leased, kept = {}, {}
local lease = nil

function init()
  lease = wrk.format("GET", "/keys")
  begin_together()
end

function request()
  local id = table.remove(kept)
  if id then return wrk.format("PUT", "/keys/" .. id) end
  id = table.remove(leased)
  if id then
    kept[#kept + 1] = id
    return wrk.format("PUT", "/keepalive/" .. id)
  end
  return lease
end

function response(status, headers, body)
  local id = body:match('"keyId":"([^"]+)"')
  if id then leased[#leased + 1] = id end
end

dofile(os.getenv("COMMON"))
