-- What all loads share: they begin together, and print what was measured.

-- Several processes make one load. Each prints a line when it has prepared its requests, and waits for one.
function begin_together()
  io.write("READY\n")
  io.flush()
  io.read()
end

-- Prints what was measured as one line of JSON.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d,' ..
    '"bad_status":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
