-- One kind of request, over and over, set by the environment:
--   METHOD, PATH_TEMPLATE   where {id} stands for an id from the file IDS, one after the other
--   START                   the number of the id to begin with
--   DEPTH                   how many requests are sent at once (pipelining)
--
-- All requests are made beforehand and no garbage is collected, so that wrk itself pauses for
-- nothing.

local method, path = os.getenv("METHOD"), os.getenv("PATH_TEMPLATE")
local depth = tonumber(os.getenv("DEPTH"))
local before, after = path:match("^(.-){id}(.*)$")
local requests, next_request = {}, tonumber(os.getenv("START"))

local function add(paths)
  local all = {}
  for i, one in ipairs(paths) do all[i] = wrk.format(method, one) end
  requests[#requests + 1] = table.concat(all)
end

function init()
  local paths = {}
  local function take(one)
    paths[#paths + 1] = one
    if #paths == depth then
      add(paths)
      paths = {}
    end
  end
  if before then
    for id in io.lines(os.getenv("IDS")) do take(before .. id .. after) end
  else
    for _ = 1, depth do take(path) end
  end
  collectgarbage()
  collectgarbage("stop")
  begin_together()
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

dofile(os.getenv("COMMON"))
