-- The cycle for wrk: five exchanges, in order, by a user who has done none before.
--
-- wrk gives a script neither a connection's state nor its identity, and a thread for each user would
-- spend more on switching between them than on requests. So a user is a slot in a table, and the server
-- echoes the slot's number as X-External-Correlation-Id. Which connection carries it does not matter:
-- there are as many connections as users, and each waits for its answer before it sends again.
--
-- Arguments after `--`: users at once, people to draw from.
local ffi = require("ffi")
ffi.cdef[[
typedef struct { long seconds; long nanoseconds; } moment;
int clock_gettime(int clock, moment *now);
]]
local MONOTONIC = 1
local clock = ffi.new("moment")

local function now()
  ffi.C.clock_gettime(MONOTONIC, clock)
  return tonumber(clock.seconds) * 1e6 + tonumber(clock.nanoseconds) / 1e3
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local users = tonumber(args[1])
  people = tonumber(args[2])
  drawn = 0
  slots, ready, head, tail = {}, {}, 1, users
  for slot = 1, users do
    slots[slot] = { step = 1 }
    ready[slot] = slot
  end
  asked = false
  -- Kept here, since `done` runs elsewhere and may ask a thread for its globals only.
  ends, durations, failures = {}, {}, {}
end

local function fail(what)
  failures[what] = (failures[what] or 0) + 1
end

local function begin(user)
  if drawn >= people then
    fail("more cycles than people: raise --people")
    drawn = 0
  end
  user.authorization = "Bearer bench-" .. drawn
  user.statement = "/v1/profiles/" .. drawn .. "/balance-statements/" .. drawn .. "/statement.json"
    .. "?currency=GBP&intervalStart=2026-01-01T00:00:00Z&intervalEnd=2026-01-31T23:59:59Z&type=COMPACT"
  user.token = nil
  user.step = 1
  user.begun = now()
  drawn = drawn + 1
end

local SMS = "/v1/one-time-token/sms/"
local exchanges = {
  function(user, headers)
    return wrk.format("GET", user.statement, headers)
  end,
  function(user, headers)
    headers["One-Time-Token"] = user.token
    return wrk.format("GET", "/v1/one-time-token/status", headers)
  end,
  function(user, headers)
    headers["One-Time-Token"] = user.token
    headers["Content-Length"] = "0"
    return wrk.format("POST", SMS .. "trigger", headers)
  end,
  function(user, headers)
    headers["One-Time-Token"] = user.token
    headers["Content-Type"] = "application/json"
    return wrk.format("POST", SMS .. "verify", headers, '{"otpCode":"111111"}')
  end,
  function(user, headers)
    headers["x-2fa-approval"] = user.token
    return wrk.format("GET", user.statement, headers)
  end,
}
local expected = { 403, 200, 200, 200, 200 }

function request()
  -- wrk asks once beforehand, to see how long a request is, and sends nothing.
  if not asked then
    asked = true
    return wrk.format("GET", "/")
  end
  local slot = ready[head]
  if slot == nil then
    fail("a user was lost: an answer without its correlation id, or a broken connection")
    return wrk.format("GET", "/")
  end
  ready[head] = nil
  head = head + 1
  local user = slots[slot]
  if user.step == 1 then
    begin(user)
  end
  return exchanges[user.step](user, {
    ["Authorization"] = user.authorization,
    ["X-External-Correlation-Id"] = slot,
  })
end

function response(status, headers, body)
  local slot = tonumber(headers["x-external-correlation-id"] or "")
  local user = slots[slot or 0]
  if user == nil then
    fail("exchange unknown: status " .. status .. " without a correlation id: " .. body:sub(1, 200))
    return
  end
  local step = user.step
  user.step = step + 1
  if status ~= expected[step] then
    fail("exchange " .. step .. ": status " .. status .. ": " .. body:sub(1, 200))
    user.step = 1
  elseif step == 1 then
    user.token = headers["x-2fa-approval"]
  elseif step == 5 then
    local ended = now()
    ends[#ends + 1] = ended
    durations[#durations + 1] = ended - user.begun
    user.step = 1
  end
  tail = tail + 1
  ready[tail] = slot
end

function done(summary)
  for _, thread in ipairs(threads) do
    local finished, took = thread:get("ends"), thread:get("durations")
    for index, ended in ipairs(finished) do
      print(string.format("cycle %.0f %.0f", ended, took[index]))
    end
    for what, count in pairs(thread:get("failures")) do
      print("failure " .. count .. " " .. what:gsub("%s+", " "))
    end
  end
  local errors = summary.errors
  print("sockets " .. errors.connect + errors.read + errors.write + errors.timeout)
end
