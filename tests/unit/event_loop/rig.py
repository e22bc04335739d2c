# SPDX-License-Identifier: Apache-2.0
"""One real worker process, and a stand-in for control at the other end of its line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from pylae import _core
from pylae.entities import enable_plugins, schema
from pylae.sdk.loader import load_plugins
from pylae.settings import Settings
from tests.support import raw
from tests.support.wait import until

DATABASE_ID = "6f2a9c1e-0000-4000-8000-000000000001"
PLUGIN_FOLDER = Path(__file__).parent / "plugins"
LEAVES_WITHIN_S = 10.0


class Control:
    """Gives every worker one snapshot, answers calls, keeps what workers say."""

    def __init__(self, path: Path, snapshot: bytes) -> None:
        self.said: list[list[Any]] = []
        self._snapshot = snapshot
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more workers."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._server.accept()
                threading.Thread(target=self._serve, args=[line], daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, line.makefile("rb") as frames:
            while head := frames.read(4):
                message = msgspec.msgpack.decode(frames.read(int.from_bytes(head, "big")))
                self.said.append(message)
                if message[0] == "hello":
                    self._send(line, self._snapshot)
                elif message[0] == "call":
                    self._send(line, msgspec.msgpack.encode(_reply(message)))

    @staticmethod
    def _send(line: socket.socket, body: bytes) -> None:
        line.sendall(len(body).to_bytes(4, "big") + body)


def _reply(call: list[Any]) -> list[Any]:
    _, number, _, operation, arguments = call
    if arguments["table"] == "no-such-table":
        return ["reply", number, False, {"error": "invalid", "message": "no such table"}]
    return ["reply", number, True, {"operation": operation, "name": arguments["value"]}]


class Worker:
    """`python -m pylae.worker`, alone."""

    def __init__(self, folder: Path, plugin: str, *, plugin_folder: Path = PLUGIN_FOLDER, origin_port: int = 1) -> None:
        self.folder = folder
        for name in ("logs", "sockets", "spool"):
            (folder / name).mkdir()
        lines = ["log_level = debug", f"plugins = {plugin}", f"plugin_path = {plugin_folder}", "proxy_listen = 127.0.0.1:1"]
        (folder / ".kong_env").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.control = Control(folder / "sockets" / "control.sock", _snapshot(Settings.from_prefix(folder), plugin, origin_port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.shared_fd = _core.create_shared(2, 1200)
        self.shared = _core.Shared(self.shared_fd)
        parent_read, self.parent_fd = os.pipe()
        ready_read, ready_write = os.pipe()
        listeners = [
            {"purpose": "proxy", "address": "127.0.0.1", "port": self.port, "flags": [], "fds": [self._listener.fileno()]}
        ]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-X", "dev", "-m", "pylae.worker", "--prefix", str(folder), "--index", "0"),
                *("--generation", "1", "--listeners", json.dumps(listeners), "--shared-fd", str(self.shared_fd)),
                *("--parent-fd", str(parent_read), "--ready-fd", str(ready_write)),
            ],
            pass_fds=[self._listener.fileno(), self.shared_fd, parent_read, ready_write],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(parent_read)
        os.close(ready_write)
        with os.fdopen(ready_read, "rb") as ready:
            said = ready.read(1)
        if said != b"1":
            raise AssertionError(f"the worker does not serve: {self.process.communicate()[1]}\n{self.error_log()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()
        self.process.wait()
        self._listener.close()
        self.control.close()
        os.close(self.shared_fd)
        with contextlib.suppress(OSError):
            os.close(self.parent_fd)

    def get(self, path: str) -> raw.Reply:
        """The answer to a GET."""
        return raw.get(self.port, path)

    def seen(self) -> list[str]:
        """What the plugin noted, in order."""
        noted: list[str] = json.loads(self.get("/seen").body)["seen"]
        return noted

    def until_seen(self, text: str) -> list[str]:
        """Waits until the plugin has noted this."""
        return until(lambda: seen if text in (seen := self.seen()) else None, f"`{text}` to be noted")

    def error_log(self) -> str:
        """What stands in `error.log`."""
        path = self.folder / "logs" / "error.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def until_logged(self, text: str) -> str:
        """Waits until a line of `error.log` holds this; the line."""
        lines: Callable[[], list[str]] = lambda: [line for line in self.error_log().splitlines() if text in line]  # noqa: E731
        return until(lambda: found[0] if (found := lines()) else None, f"`{text}` in {self.error_log()}")

    def end(self, number: int = signal.SIGQUIT) -> tuple[int, str, str]:
        """Sends a signal and waits for the end: exit code, stdout, stderr."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=LEAVES_WITHIN_S)
        return self.process.returncode, output, errors


def _snapshot(settings: Settings, plugin: str, origin_port: int) -> bytes:
    enable_plugins(load_plugins(settings))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("services", "routes", "plugins", "upstreams", "targets")}
    rows["services"] = [schema("services").insert({"host": "127.0.0.1", "port": origin_port})]
    rows["routes"] = [
        schema("routes").insert({"paths": ["/"], "strip_path": False, "service": {"id": rows["services"][0]["id"]}})
    ]
    rows["plugins"] = [schema("plugins").insert({"name": plugin})]
    return msgspec.msgpack.encode(["snapshot", {"version": [DATABASE_ID, 1], "entities": rows}])
