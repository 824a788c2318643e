-- wrk's script: sends the requests of a folder (files 1, 2, ...: the raw bytes of each) in turn, and prints what came
-- of it as one line of JSON. Its one argument is the folder. Latencies are in microseconds.

local requests = {}
local at = 0

function init(arguments)
   while true do
      local file = io.open(arguments[1] .. "/" .. (#requests + 1), "rb")
      if not file then break end
      requests[#requests + 1] = file:read("*a")
      file:close()
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
