# SPDX-License-Identifier: Apache-2.0
"""What does a real browser do with a page of ours?

Chromium without a window, spoken to in its DevTools protocol over two pipes.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.servers.server import find

ANSWER_WITHIN_S: Final = 20.0
_CHUNK_BYTES: Final = 1 << 16
# Names end up at this machine whatever they are, and nothing is asked of anyone else.
_FLAGS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--host-resolver-rules=MAP * 127.0.0.1", "--remote-debugging-pipe"),
)


class Browser:
    """One process of Chromium with a profile of its own."""

    def __init__(self) -> None:
        program = find("chromium")
        assert program, "chromium is not installed; hint: scripts/test-packages.sh"
        self._folder = Path(tempfile.mkdtemp(prefix="pylae-b-"))
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The protocol's pipes are descriptors 3 and 4 of the browser.
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, program, *_FLAGS, f"--user-data-dir={self._folder}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self._folder)},
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._read = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._out)
        os.close(self._in)
        # It is the first of its own group, which has its helpers too.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def page(self, url: str) -> Page:
        """A page of its own, loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        made = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable", {}, session)
        made.go(url)
        return made

    def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> Any:
        """One command's result; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline_s = time.monotonic() + ANSWER_WITHIN_S
        while True:
            received = self._receive(deadline_s)
            if received.get("id") == self._number:
                assert "error" not in received, f"{method}: {received['error']}"
                return received["result"]
            self.events.append(received)

    def wait_for(self, event: str, session: str) -> dict[str, Any]:
        """The next event of this name, or one that was kept."""
        deadline_s = time.monotonic() + ANSWER_WITHIN_S
        while True:
            for position, kept in enumerate(self.events):
                if kept.get("method") == event and kept.get("sessionId") == session:
                    return self.events.pop(position)
            self.events.append(self._receive(deadline_s))

    def _receive(self, deadline_s: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline_s - time.monotonic()))
            assert ready, f"the browser did not answer within {ANSWER_WITHIN_S:g} s"
            piece = os.read(self._in, _CHUNK_BYTES)
            assert piece, f"the browser ended with {self._process.poll()}"
            self._read += piece
        message, _, self._read = self._read.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


class Page:
    """One page, its scripts and what it complains of."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def go(self, url: str) -> None:
        """Loads another document."""
        self._browser.call("Page.navigate", {"url": url}, self._session)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def run(self, script: str) -> Any:
        """What the body of an async function returns; an exception in it fails the test."""
        parameters = {"expression": f"(async () => {{ {script} }})()", "awaitPromise": True, "returnByValue": True}
        done = self._browser.call("Runtime.evaluate", parameters, self._session)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def leave(self, script: str) -> None:
        """Runs a script that leads to another document, and waits for that."""
        self._browser.call("Runtime.evaluate", {"expression": script}, self._session)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def cookies(self) -> dict[str, dict[str, Any]]:
        """The cookies that the document's address would get, by name, with their attributes."""
        found = self._browser.call("Network.getCookies", {}, self._session)["cookies"]
        return {cookie["name"]: cookie for cookie in found}

    def complaints(self) -> list[str]:
        """Exceptions, and what the browser refused on the page's behalf."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] != "verbose":
                found.append(str(event["params"]["entry"]["text"]))
        return found
