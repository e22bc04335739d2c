# SPDX-License-Identifier: Apache-2.0
"""How long does each of a light load's requests take, in a process that has nothing else to do?"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from bench.child import READY, Child
from tests.support.raw import Client, ClosedEarly, request

SHOWN_FAILURES = 5


@dataclass
class Latencies:
    """Milliseconds from sending a request to its whole answer, sorted; those that failed are not among them."""

    all_ms: list[float]
    failures: list[str]

    def percentile(self, percent: float) -> float:
        """A percentile, in ms."""
        return self.all_ms[min(len(self.all_ms) - 1, int(len(self.all_ms) * percent / 100))]

    @property
    def longest(self) -> float:
        """The longest, in ms."""
        return self.all_ms[-1]


class Paced(Child):
    """Arguments: port, host, path, requests per second, seconds. One kept connection.

    A request is sent when its time has come or, when the one before took longer, at once after it: the longest latency tells a
    stall to within the time between two requests.
    """

    module = "paced"

    def latencies(self) -> Latencies:
        """Wait for the end.

        Raises:
            RuntimeError: nothing was answered.
        """
        raw = self.finish(float(self.arguments[-1]) + 60)
        if not raw["latencies_ms"]:
            raise RuntimeError(f"no request was answered: {raw['failures'][:SHOWN_FAILURES]}")
        return Latencies(sorted(raw["latencies_ms"]), raw["failures"])


def paced(port: int, host: str, path: str, rate: float, for_s: float) -> Latencies:
    """A light load, from its begin to its end."""
    return Paced(port, host, path, rate, for_s).start().latencies()


def run(port: int, host: str, path: str, rate: float, for_s: float) -> None:
    """Send, measure, say."""
    data = request("GET", path, host=host)
    latencies_ms: list[float] = []
    failures: list[str] = []
    client: Client | None = None
    print(READY, flush=True)
    due_s = time.perf_counter()
    end_s = due_s + for_s
    while due_s < end_s:
        due_s = max(due_s + 1 / rate, time.perf_counter())
        time.sleep(max(0.0, due_s - time.perf_counter()))
        try:
            client = client or Client(port)
            since_s = time.perf_counter()
            reply = client.send(data).read_reply()
            took_ms = (time.perf_counter() - since_s) * 1e3
        except (OSError, ClosedEarly) as error:
            failures.append(f"{type(error).__name__}: {error}")
            client = None
            continue
        if reply.status == 200:
            latencies_ms.append(round(took_ms, 3))
        else:
            failures.append(f"{reply.status} {reply.text[:200]}")
        if reply.header("Connection") == "close":
            client.close()
            client = None
    print(json.dumps({"latencies_ms": latencies_ms, "failures": failures}), flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5]))
