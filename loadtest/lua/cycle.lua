-- The cycle of a careful client: lease a key, waiting if need be, keep it alive, renew the lease, release it. The
-- last two name the ETag of the lease.
-- wrk does not say which connection an answer belongs to, so leases go through queues: each is kept alive, renewed
-- and released once, by whichever connection is next.
-- So where the server has several threads, a release now and then overtakes its renewal, which is then refused (412).

local prefix = os.getenv("PREFIX")
local leased, kept, renewed = {}, {}, {}
local lease = nil

function init()
  lease = wrk.format("GET", prefix .. "/keys?wait=1s")
  begin_together()
end

local function fenced(path, tag)
  wrk.headers["If-Match"] = tag
  local request = wrk.format("PUT", path)
  wrk.headers["If-Match"] = nil
  return request
end

function request()
  local key = table.remove(renewed)
  if key then return fenced(prefix .. "/keys/" .. key.id, key.tag) end
  key = table.remove(kept)
  if key then
    renewed[#renewed + 1] = key
    return fenced(prefix .. "/keys/" .. key.id .. "/lease", key.tag)
  end
  key = table.remove(leased)
  if key then
    kept[#kept + 1] = key
    return wrk.format("PUT", prefix .. "/keepalive/" .. key.id)
  end
  return lease
end

function response(status, headers, body)
  local id = body:match('"keyId":"([^"]+)"')
  if id then leased[#leased + 1] = {id = id, tag = headers["etag"]} end
end

dofile(os.getenv("COMMON"))
