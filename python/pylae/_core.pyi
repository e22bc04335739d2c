# SPDX-License-Identifier: Apache-2.0
"""What does the data plane offer Python? The typed face of `crates/pylae-python`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Self, final

__all__ = [
    "Answer",
    "ChainRefused",
    "Configuration",
    "Exchange",
    "Gateway",
    "Reactor",
    "RevocationList",
    "Shared",
    "build_profile",
    "check_expression",
    "create_shared",
    "faults",
    "regex_problem",
    "verify_client_chain",
]

build_profile: Literal["debug", "release"]

def create_shared(worker_slots: int, counter_slots: int = 262_144, health_slots: int = 131_072) -> int:
    """Makes the shared segment and returns its descriptor (close-on-exec), which the caller owns."""

def check_expression(text: str, *, is_stream: bool = False) -> str | None:
    """What is wrong with a Route's `expression` and where, over several lines; `None`: nothing."""

def regex_problem(pattern: str) -> str | None:
    """What is wrong with a regular expression in a Route's `paths` (without `~`) or `headers` (without `~*`); `None`: nothing."""

class ChainRefused(Exception):
    """Nobody trusted vouches for a client's certificate; args: a word (`revoked`, `revocation_unknown`, `expired`, …), a text."""

@final
class RevocationList:
    """A certificate revocation list, read once; reading lets other threads run."""

    def __new__(cls, der: bytes) -> Self:
        """Raises ChainRefused: not one, or an indirect or partial one."""

    @property
    def next_update_s(self) -> int | None:
        """Until when it counts, in seconds since the epoch."""

    @property
    def issuer(self) -> bytes:
        """The name of its issuer: DER, without the head of the outer sequence."""

def verify_client_chain(
    chain: Sequence[bytes],
    anchors: Sequence[bytes],
    *,
    at_s: int,
    helpers: Sequence[bytes] = ...,
    crls: Sequence[RevocationList] = ...,
    status_of: Literal["leaf", "all"] | None = None,
    depth: int = 6,
) -> tuple[list[bytes], int]:
    """Builds and checks a path from the first certificate to an anchor, for the use as a client's certificate (RFC 5280).

    Args:
        chain: DER, the client's own first; the others help to find the way.
        anchors: DER; those not good at that time vouch for nobody.
        at_s: seconds since the epoch.
        helpers: more certificates to find the way by.
        crls: what any of them revokes is refused, even if it is old.
        status_of: whose certificate must be on good terms with a current list: the client's own, or all below the anchor.
        depth: most certificates between the client's and the anchor, at most 6.

    Returns:
        The path found (DER) without the anchor, and which anchor it leads to.

    Raises:
        ChainRefused: there is none.
    """

def faults() -> list[dict[str, Any]]:
    """The table of faults, in walking order.

    Returns:
        `name`, `room`, `side` (`client`, `gateway`, `upstream`), `status` (499 and 0 are for the log alone), `may_have_acted`,
        `retry` (`never`, `nothing_sent`, `idempotent`), `phrase` (nginx's), `response_flag` (Envoy's), `tyk_flag`,
        `proxy_status` (RFC 9209) and `cure`.
    """

@final
class Configuration:
    """A whole configuration, read as workers read it; any thread may ask it."""

    def __new__(
        cls,
        message: bytes,
        *,
        router_flavor: str = "traditional_compatible",
        router_ranking: str = "kong",
        plugins: list[dict[str, Any]] = ...,
    ) -> Self:
        """`message` is the frame that `Feed.since(None)` makes, with its length.

        Args:
            message: the frame.
            router_flavor: how Routes are compiled.
            router_ranking: how they are ordered.
            plugins: `name`, `priority`, `phases` (a mapping or list of their names), `reads_body`, and `authenticates` if it says
                who the client is.

        Raises:
            ValueError: The message cannot be read, or a setting or plugin is not as expected.
        """
    @property
    def version(self) -> tuple[str, int]:
        """Database id and sequence."""
    @property
    def warnings(self) -> list[str]:
        """What is kept but has no effect."""
    def explain(self, request: dict[str, Any], *, nearest: int = 5) -> dict[str, Any]:
        """Which Route, Service, Upstream and plugins a request that is only described meets, and why; in time proportional to the
        number of Routes, without the interpreter's lock.

        Args:
            request: `method`, `scheme`, `path` (as sent, without query), `headers` (pairs; a value of None is withheld), and if
                known `host` (as in the Host header; empty: the request has none), `query` (as sent),
                `hidden_query` (names of arguments whose values are withheld), `has_more_headers`, `has_more_arguments` (whether
                some may not be named), `client_ip`, `client_port`, `listen_port`, `local_address`, `sni` (None: none
                was asked for; not there: not known), `consumer_id`, `is_trusted` (whether the peer is one of `trusted_ips`; else
                identity headers do not count).
            nearest: how many of the Routes that do not match are told of.

        Returns:
            `route` (`id`, `name`, `why`: pairs of `condition` and `value`; None), `service`, `upstream` (with `targets`),
            `plugins` (`id`, `name`, `scope`, `reads_body`, `authenticates`, `depends_on_consumer`), `upstream_path`, `status` and
            `fault` of the answer that the gateway gives by itself, `outranked`, `nearest` (`id`, `name`, `failed`: `condition`,
            `wanted`, `got`), `unknown`: why it might be otherwise, as what is withheld decides, and `open`: the ids of the Routes
            of which that is said.

        Raises:
            ValueError: Names the key that is not as expected, before a colon.
        """

@final
class Shared:
    """A view of the shared segment."""

    def __new__(cls, fd: int) -> Self: ...
    @property
    def worker_slots(self) -> int:
        """Worker slots in it."""
    def heartbeat_age_ms(self, slot: int) -> int | None:
        """Milliseconds since the slot's worker was alive; `None` when nobody is in the slot."""
    def pid(self, slot: int) -> int:
        """Process id of the slot's worker."""
    def generation(self, slot: int) -> int:
        """Generation of the slot's worker."""
    def running_plugin(self, slot: int) -> tuple[str, int] | None:
        """What runs inline there (`plugin phase`) and for how many milliseconds."""
    def clear_slot(self, slot: int) -> None:
        """Says that the slot's worker is gone: its siblings accept in its place."""
    def statistics(self) -> dict[str, int]:
        """Counts summed over all workers, under the names `/status` uses."""
    def health(self, upstream: str | None = None) -> list[dict[str, Any]]:
        """What is known of every address of a Target whose health is looked at, or was within the last minute.

        Args:
            upstream: an id; the addresses of its Targets alone, which are found fast.

        Returns:
            `upstream`, `target` (ids), `address`, `port`, `is_healthy`, `state` (`healthy`, `mostly_healthy`, `mostly_unhealthy`,
            `unhealthy`, `ejected`), `why`, `since_ms` (epoch), `until_ms` (epoch: it ends by itself then; None: it does not), how
            often each came in a row (`successes`, `tcp_failures`, `timeouts`, `http_failures`), `probed_ms` (epoch; None: never)
            and `evidence`, what the last probe, or the request that turned the state, found. An address that is not among them
            is healthy and was never asked for.

        Raises:
            ValueError: The id is no UUID.
        """
    def mark_health(self, upstream: str, target: str, address: str, port: int, is_healthy: bool) -> bool:
        """Says how an address does; what was counted is forgotten, an ejection is over, and checks go on from there.

        Returns:
            False when the table has no room for it.

        Raises:
            ValueError: An id is no UUID, or the address no IP address.
        """
    def forget_health(self, upstream: str, target: str, address: str, port: int) -> bool:
        """Forgets all that is known of an address, as if it were new.

        Returns:
            False when nothing was known.

        Raises:
            ValueError: An id is no UUID, or the address no IP address.
        """

@final
class Reactor:
    """The runtime of this thread, as an asyncio selector sees it."""

    def __new__(cls) -> Self: ...
    def control(self, operation: int, fd: int, events: int) -> None:
        """Adds (1), removes (2) or changes (3) a descriptor; `events` is an epoll mask."""
    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Runs the data plane until a descriptor is ready, `wake` is called, or `timeout` seconds are over."""
    def wake(self) -> None:
        """Ends a wait that is going on."""
    def drop_tasks(self) -> None:
        """Ends every task of the data plane where it stands; between waits only."""

@final
class Gateway:
    """One worker's data plane."""

    on_invalidate: Callable[[list[tuple[str, str, Any]] | None], None] | None
    """Called with cached rows to forget; `None`: all."""
    def __new__(
        cls,
        *,
        settings: str,
        listeners: str,
        worker_index: int,
        generation: int,
        shared_fd: int,
        parent_fd: int,
        plugins: list[dict[str, Any]],
        ready_fd: int | None = None,
    ) -> Self:
        """`settings` and `listeners` are JSON; `plugins` are what `pylae.sdk.host.definition_of` makes.

        Raises:
            ValueError: A setting, listener or plugin definition is not as expected.
        """
    def start(self, event_loop: Any, on_drained: Callable[[], object]) -> None:
        """Sets the data plane up on this thread and asyncio loop; it runs while the loop runs.

        Requests are taken once there is a configuration and `open` was called.

        Raises:
            RuntimeError: Started twice, or a certificate can't be read.
        """
    def open(self) -> None:
        """Says that plugins have started."""
    def drain(self) -> None:
        """Serves what is in flight and takes nothing new; `on_drained` follows."""
    def stop(self) -> None:
        """Leaves now: what is in flight is cut off; `on_drained` follows."""
    def close(self) -> None:
        """Ends what still runs of the data plane; between runs of the loop only."""
    def reopen_logs(self) -> None:
        """Opens the log files anew."""
    def call(self, operation: str, args: bytes, timeout_ms: int) -> Awaitable[bytes]:
        """Asks control; MessagePack both ways.

        Raises:
            pylae.sdk.CallFailed: `busy`, `timeout`, `unavailable`, or control's own.
        """
    def stream(self, channel: str, item: bytes) -> bool:
        """Hands an item to control, some time; `False`: dropped and counted."""
    def counters_take(self, identifier: bytes, limits: list[tuple[int, int, int]], cost: int = 1) -> tuple[bool, list[int]]:
        """Counts `cost` in every window `(limit, start_ms, end_ms)`, or in none when one would go over its limit."""
    def counters_read(self, identifier: bytes, limits: list[tuple[int, int, int]]) -> list[int]:
        """What each window has."""
    def log(self, level: str, message: str) -> None:
        """Writes one line to `error.log`."""
    def version(self) -> tuple[str, int]:
        """Database id and sequence of the configuration served; the id is empty before the first."""

@final
class Answer:
    """An answer a plugin gives; made by `Exchange.answer` and `Exchange.error`."""

    @property
    def status(self) -> int:
        """HTTP status."""

@final
class Exchange:
    """One request, its answer and what plugins share about it; `pylae.sdk.Exchange` says what it offers."""

    @property
    def id(self) -> str:
        """Request id, 32 hex digits."""
    @property
    def request(self) -> Any:
        """What the client asked."""
    @property
    def service(self) -> Any:
        """Where the request goes."""
    @property
    def response(self) -> Any:
        """What the client will see."""
    @property
    def client(self) -> Any:
        """Who called."""
    @property
    def route(self) -> dict[str, Any] | None:
        """The matched Route's row."""
    @property
    def ctx(self) -> dict[str, Any]:
        """Shared by all plugins of this request."""
    def answer(
        self,
        status: int,
        body: str | bytes | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str | list[str]] | None = None,
    ) -> Answer:
        """An answer with the body as given."""
    def error(self, status: int, message: str | None = None, headers: Mapping[str, str | list[str]] | None = None) -> Answer:
        """An error negotiated by Accept."""
    def set_log_value(self, key: str, value: Any) -> None:
        """Puts a value under a dotted key into what log plugins send."""
    def serialize(self) -> dict[str, Any]:
        """The request as log plugins send it."""
    def log(self, level: str, message: str) -> None:
        """Writes one line to `error.log`, with the request's id."""
