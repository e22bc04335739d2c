# SPDX-License-Identifier: Apache-2.0
"""What is the process told that walks a request through plugins again, and what does it tell?

Both are JSON: the order on its standard input, a report on each line of its standard output, the last one being the
best.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Mode = Literal["run", "assumed", "not_run", "unknown"]
"""What is done with a plugin: run again; taken as having found whom the record names; left out, as it is not pure or
cannot be had; left out, as it depends on something that is not kept."""

Kind = Literal["raised", "answered", "status", "upstream", "blocked", "died"]
"""How a request fails: a phase raised, a plugin answered 400 or more, made that of a good answer, sent upstream what
cannot work, did not return, or ended the process."""


Stage = Literal["loading", "whole", "smallest", "done"]


class Applied(msgspec.Struct, frozen=True):
    """A configured plugin: a row of `plugins`."""

    name: str
    id: str
    config: dict[str, Any]
    route_id: str | None = None
    service_id: str | None = None
    consumer_id: str | None = None


class Asked(msgspec.Struct, frozen=True):
    """What the client asked.

    Attributes:
        query: what follows `?`; None when there was one and it is not kept.
        headers: in order; the value None is not kept.
        has_all_headers: whether there were no others.
        body: None when there was one and it is not kept.
        body_bytes: its length.
        head_bytes: length of the whole head as it was received; 0 when it is not known.
        is_captured: whether it comes from a record, so that what no record holds is not known.
    """

    method: str = "GET"
    path: str = "/"
    query: str | None = ""
    headers: tuple[tuple[str, str | None], ...] = ()
    has_all_headers: bool = True
    body: bytes | None = b""
    body_bytes: int = 0
    head_bytes: int = 0
    ip: str = "192.0.2.1"
    scheme: str = "http"
    host: str = "localhost"
    is_captured: bool = False


class Stub(msgspec.Struct, frozen=True):
    """What the upstream is taken to answer."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    body: bytes = b"{}"


class Identity(msgspec.Struct, frozen=True):
    """Who the client was.

    Attributes:
        consumer: its row; only an `id` when no more is known.
        credential_id: of the credential it showed.
        is_whole: whether the row is all there is to know of the Consumer.
    """

    consumer: dict[str, Any] | None = None
    credential_id: str | None = None
    is_whole: bool = False


class Order(msgspec.Struct, frozen=True):
    """What is to be walked through what.

    Attributes:
        upstream_path: path that would go upstream if no plugin changed it.
        upstream_names: the Upstreams there are; None when that is not known.
        plugin_path: directories of plugins that are not bundled.
        now_ms: what the clock shows.
        only: positions in `plugins` to take, for a second look; None takes all.
        hook_limit_s: after which a phase is taken to block.
        search_limit_s: after which no further combination is tried.
    """

    plugins: list[Applied]
    asked: Asked = Asked()
    stub: Stub = Stub()
    identity: Identity = Identity()
    route: dict[str, Any] | None = None
    service: dict[str, Any] | None = None
    upstream_path: str = "/"
    upstream_names: list[str] | None = None
    plugin_path: list[str] = []
    now_ms: int = 0
    only: list[int] | None = None
    hook_limit_s: float = 0.5
    search_limit_s: float = 2.0


class Member(msgspec.Struct):
    """One plugin of the chain, in the order they run.

    Attributes:
        position: in the order's `plugins`.
        may_change: whether it has a part in what comes of a request; else it only logs, or works elsewhere.
    """

    position: int
    name: str
    id: str
    mode: Mode
    reason: str = ""
    may_change: bool = True


class Trouble(msgspec.Struct, frozen=True):
    """How a request failed.

    Attributes:
        position: of the plugin that failed, or was the last to make a request that cannot work.
        what: name of the exception, the status, or what cannot work.
        status: what the client would get; 0 when that depends on the upstream.
        text: what the exception says; empty when that might tell a secret.
        place: file and line.
    """

    kind: Kind
    position: int
    phase: str
    what: str
    status: int = 0
    text: str = ""
    place: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same trouble in another run."""
        if self.kind == "upstream":
            return (self.kind, self.what)
        return (self.kind, str(self.position), self.phase, self.what)


class Run(msgspec.Struct):
    """One walk.

    Attributes:
        log_troubles: failures of log phases, which no client notices.
        status: the client would get.
        target: method, scheme and path that went upstream; empty when nothing did.
    """

    trouble: Trouble | None = None
    log_troubles: list[Trouble] = []
    status: int = 0
    target: str = ""


class Report(msgspec.Struct):
    """What came of an order.

    Attributes:
        stage: how far it came: `loading`, `whole` (the whole chain was run), `smallest` (the set was found), `done` (each
            plugin was left out once).
        is_busy: whether the machine had too little time for it.
        is_steady: whether the whole chain fails the same way twice.
        without: for each plugin that was run, whether the request still fails without it; None when that is not known.
        smallest: positions of plugins that make it fail alike, all others left out.
        is_smallest: whether no smaller set does; else only none of it can be left out.
        run_count: walks it took.
    """

    stage: Stage = "loading"
    is_busy: bool = False
    members: list[Member] = []
    whole: Run | None = None
    is_steady: bool = True
    without: list[tuple[int, bool | None]] = []
    smallest: list[int] | None = None
    is_smallest: bool = False
    run_count: int = 0
