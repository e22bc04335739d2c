# SPDX-License-Identifier: Apache-2.0
"""What does the Admin API say to this call?"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    """Status, headers (lower-case names) and body of one call."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body decoded; None when empty."""
        return json.loads(self.body) if self.body else None


class Admin:
    """One kept-alive connection to the Admin API, opened anew when the control process was replaced."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One call; whatever the status, it is the caller's to judge.

        Args:
            method: HTTP method.
            path: with query.
            body: bytes as they are; anything else as JSON.
            headers: in addition.
        """
        sent = dict(headers or {})
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None and not isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        fresh = self._connection is None
        try:
            return self._once(method, path, data, sent)
        except (OSError, http.client.HTTPException):
            self.close()
            if fresh:
                raise
            return self._once(method, path, data, sent)

    def _once(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _expect(self, statuses: tuple[int, ...], method: str, path: str, body: Any = None) -> Any:
        answer = self.call(method, path, body)
        assert answer.status in statuses, f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}"
        return answer.json

    def post(self, path: str, body: Any = None) -> Any:
        """Create; the entity."""
        return self._expect((200, 201), "POST", path, {} if body is None else body)

    def put(self, path: str, body: Any) -> Any:
        """Create or replace; the entity."""
        return self._expect((200, 201), "PUT", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Change; the entity."""
        return self._expect((200,), "PATCH", path, body)

    def get(self, path: str) -> Any:
        """Read."""
        return self._expect((200,), "GET", path)

    def delete(self, path: str) -> None:
        """Delete."""
        self._expect((204,), "DELETE", path)
