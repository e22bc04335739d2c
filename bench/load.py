# SPDX-License-Identifier: Apache-2.0
"""How are requests made, and what did the client side see of them?"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.machine import LOAD_CORE, find, pinned

# Each script ends with its numbers as one JSON line.
DONE = """
done = function(s, lat, req)
  local e = s.errors
  io.write(string.format('NUMBERS {"requests":%d,"us":%d,"bytes":%d,"p50":%d,"p99":%d,"max":%d,"errors":%d}\\n',
    s.requests, s.duration, s.bytes, lat:percentile(50), lat:percentile(99), lat.max,
    e.status + e.connect + e.read + e.write + e.timeout))
end
"""

SCRIPTS = {
    "plain": "",
    "upload": 'wrk.method, wrk.body = "POST", string.rep("x", 1048576)\n',
    # the key of a random one of 100 consumers
    "keys": """
local all = {}
init = function()
  math.randomseed(7)
  for i = 0, 99 do all[i + 1] = wrk.format("GET", "/", { apikey = "key-" .. i }) end
end
request = function() return all[math.random(100)] end
""",
    # what a random one of the Consumers sends, as `authentication.write_script` wrote it
    "credentials": """
local all = {}
init = function()
  math.randomseed(7)
  local file = os.getenv("BENCH_FOLDER") .. "/headers.lua"
  for i, headers in ipairs(dofile(file)) do all[i] = wrk.format("GET", "/", headers) end
end
request = function() return all[math.random(#all)] end
""",
    # the key of a random one of many consumers
    "many_keys": """
local total = tonumber(os.getenv("BENCH_ROUTES"))
init = function() math.randomseed(7) end
request = function() return wrk.format("GET", "/", { apikey = "key-" .. math.random(0, total - 1) }) end
""",
    # a random one of 1,000 routes, spread evenly over all
    "routes": """
local all, n = {}, 1000
init = function()
  math.randomseed(7)
  local total = tonumber(os.getenv("BENCH_ROUTES"))
  for k = 0, n - 1 do
    local i = math.floor(k * total / n)
    all[k + 1] = wrk.format("GET", "/r" .. i .. "/x", { Host = "h" .. i .. ".bench.test" })
  end
end
request = function() return all[math.random(n)] end
""",
    # a random one of the paths /loaded/<n>
    "loaded": """
local all = {}
init = function()
  math.randomseed(7)
  for i = 1, tonumber(os.getenv("BENCH_ROUTES")) do all[i] = wrk.format("GET", "/loaded/" .. (i - 1)) end
end
request = function() return all[math.random(#all)] end
""",
}


@dataclass
class Numbers:
    """What wrk counted. Its percentiles are a closed loop's: at saturation they say throughput, not latency."""

    requests: int
    seconds: float
    mib: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int


def wrk(folder: Path, url: str, path: str, *, connections: int, script: str, seconds: int, routes: int = 1) -> Numbers:
    """One run of wrk, one thread, on the load's core.

    Raises:
        RuntimeError: wrk said nothing of its numbers.
    """
    program = find("wrk")
    if not program:
        raise RuntimeError("wrk is not installed (apt-get install wrk)")
    file = folder / f"{script}.lua"
    file.write_text(DONE + SCRIPTS[script])
    arguments = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(file), url + path]
    run = subprocess.run(
        pinned(LOAD_CORE, arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
        env={"BENCH_ROUTES": str(routes), "BENCH_FOLDER": str(folder), "PATH": "/usr/bin:/bin"},
    )
    found = re.search(r"NUMBERS (\{.*\})", run.stdout)
    if not found:
        raise RuntimeError(f"wrk: {(run.stdout + run.stderr)[-500:]}")
    raw = json.loads(found[1])
    return Numbers(
        raw["requests"],
        raw["us"] / 1e6,
        raw["bytes"] / 2**20,
        raw["p50"] / 1e3,
        raw["p99"] / 1e3,
        raw["max"] / 1e3,
        raw["errors"],
    )
