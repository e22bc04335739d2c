# SPDX-License-Identifier: Apache-2.0
"""What comes of one walk through a set of plugins? A failing phase is noted, and answered as the gateway answers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, Final

from pylae.doctor.replay.exchange import exchange_of, forget, identify
from pylae.doctor.replay.order import Order, Run, Trouble
from pylae.doctor.replay.sendable import bytes_of, flaws, hidden_count
from pylae.doctor.replay.watching import Stopped, Watch
from pylae.sdk import walking
from pylae.sdk.exchange import Exchange
from pylae.sdk.plugin import Plugin
from pylae.sdk.stand_in_exchange import MemoryAnswer, MemoryExchange, MemoryServiceRequest
from pylae.sdk.walking import Link, Upstream, Walker

FIRST_ERROR: Final = 400
MOST_TEXT: Final = 200
"""Characters kept of what an exception says."""

_HERE: Final = PurePath(__file__).parent
_SDK: Final = PurePath(walking.__file__).parent

Began = Callable[[int, str], None]
"""Told of each phase that begins: position, phase."""


class Place:
    """A link and where its plugin stands in the order."""

    __slots__ = ("has_secrets", "is_fixed", "link", "position")

    def __init__(self, link: Link, position: int, *, is_fixed: bool, has_secrets: bool) -> None:
        self.link = link
        self.position = position
        self.is_fixed = is_fixed
        self.has_secrets = has_secrets

    def __repr__(self) -> str:
        return f"<place {self.position} {self.link.plugin.name}>"


class Assumed(Plugin):
    """In the place of a plugin that says who the client is."""

    def __init__(self, plugin: type[Plugin], host: Any, order: Order, watch: Watch) -> None:
        super().__init__(host)
        self.name = plugin.name  # type: ignore[misc]  # the one it stands for
        self.priority = plugin.priority  # type: ignore[misc]  # as above
        self._order = order
        self._watch = watch

    def access(self, exchange: Any, config: object) -> None:  # noqa: ARG002 - a phase of a plugin
        """Says whom the record names."""
        identity = self._order.identity
        if self._order.asked.is_captured and identity.consumer is None and identity.credential_id is None:
            forget(exchange._target)
        else:
            identify(self._order, exchange._target, self._watch)


class Unusable(Plugin):
    """In the place of a plugin that can't use its configuration: the gateway fails at its first phase."""

    def __init__(self, plugin: type[Plugin], host: Any, error: BaseException) -> None:
        super().__init__(host)
        self.name = plugin.name  # type: ignore[misc]  # the one it stands for
        self.priority = plugin.priority  # type: ignore[misc]  # as above
        for phase in ("rewrite", "access", "response", "header_filter", "body_filter"):
            if hasattr(plugin, phase):
                setattr(self, phase, self._refuse)
        self._error = error

    def _refuse(self, exchange: Exchange, config: object, *more: object) -> None:  # noqa: ARG002 - any phase of a plugin
        raise self._error


class ReplayWalker(Walker):
    """Leads one exchange through plugins and notes how it fails."""

    def __init__(self, places: Sequence[Place], order: Order, watch: Watch, began: Began) -> None:
        stub = Upstream(order.stub.status, _headers_of(order), order.stub.body)
        super().__init__([place.link for place in places], self._sent)
        self._stub = stub
        self._places = {place.link: place for place in places}
        self._order = order
        self._watch = watch
        self._began = began
        self._is_broken = False
        self._exchange: MemoryExchange
        self._hidden_bytes = 0
        self._hidden_count = 0
        self._old_flaws: dict[str, str] = {}
        self._flaw_makers: dict[str, tuple[int, str]] = {}
        self.troubles: list[Trouble] = []
        self.log_troubles: list[Trouble] = []

    async def run(self) -> Run:
        """Walks.

        Raises:
            Stopped: a plugin asked for what is not kept, or reached past the exchange.
        """
        self._exchange = exchange = exchange_of(self._order, self._watch)
        if not any(isinstance(link.plugin, Assumed) for link in self.links):
            identify(self._order, exchange, self._watch)
        self._hidden_bytes = max(0, self._order.asked.head_bytes - bytes_of(exchange))
        self._hidden_count = hidden_count(exchange)
        self._old_flaws = self._flaws()
        outcome = await self.walk(exchange)
        target = ""
        if outcome.upstream is not None:
            target = f"{outcome.upstream.method} {outcome.upstream.scheme} {outcome.upstream.path}"
        return Run(self.troubles[0] if self.troubles else None, self.log_troubles, outcome.status, target)

    async def run_hook(self, link: Link, phase: str, hook: Callable[..., Any], exchange: Any) -> MemoryAnswer | None:
        """Runs a phase, and answers in its place if it fails."""
        if self._is_broken and phase == "header_filter":
            return None
        place = self._places[link]
        status = self._exchange.response.status
        self._begin(place, phase)
        answer: MemoryAnswer | None = None
        trouble: Trouble | None = None
        try:
            answer = await super().run_hook(link, phase, hook, exchange)
        except BaseException as error:
            trouble = self._trouble_of(place, phase, error)
        finally:
            self._watch.end()
        self._check_stopped(place)
        if phase == "log":
            self.log_troubles += [trouble] if trouble is not None else []
            return None
        if trouble is not None:
            return self._failed(trouble)
        self._judge(place, phase, answer, status)
        return answer

    def filter_chunk(self, link: Link, hook: Callable[..., Any], exchange: Any, chunk: bytes, *, is_last: bool) -> bytes:
        """Filters a piece, and leaves it if the filter fails: nothing after it is sent."""
        if self._is_broken:
            return chunk
        place = self._places[link]
        self._begin(place, "body_filter")
        try:
            chunk = super().filter_chunk(link, hook, exchange, chunk, is_last=is_last)
        except BaseException as error:
            self._failed(self._trouble_of(place, "body_filter", error))
        finally:
            self._watch.end()
        self._check_stopped(place)
        return chunk

    def _begin(self, place: Place, phase: str) -> None:
        self._began(place.position, phase)
        if not isinstance(place.link.plugin, Assumed):
            self._watch.begin(place.position, phase)

    def _check_stopped(self, place: Place) -> None:
        """A plugin that caught what stopped it went on all the same, with something made up."""
        if place.position in self._watch.missed or place.position in self._watch.reached:
            raise Stopped

    def _failed(self, trouble: Trouble) -> MemoryAnswer | None:
        self.troubles.append(trouble)
        if trouble.phase in ("rewrite", "access", "response"):
            return MemoryAnswer(500, {}, None, None, "error")
        self._is_broken = True
        self._exchange.response.shown_status = 500
        return None

    def _judge(self, place: Place, phase: str, answer: MemoryAnswer | None, status: int) -> None:
        response = self._exchange.response
        if answer is not None:
            if answer.status >= FIRST_ERROR:
                self.troubles.append(Trouble("answered", place.position, phase, str(answer.status), answer.status))
        elif response.status >= FIRST_ERROR > status:
            self.troubles.append(Trouble("status", place.position, phase, str(response.status), response.status))
        elif phase in ("rewrite", "access"):
            self._note_flaws(place, phase)

    def _flaws(self) -> dict[str, str]:
        # What a plugin removed of what is not kept had a length that nobody knows.
        is_whole = hidden_count(self._exchange) >= self._hidden_count
        return flaws(self._exchange, self._hidden_bytes if is_whole else 0)

    def _note_flaws(self, place: Place, phase: str) -> None:
        present = self._flaws()
        for key in present:
            self._flaw_makers.setdefault(key, (place.position, phase))
        for key in self._flaw_makers.keys() - present.keys():
            del self._flaw_makers[key]

    def _sent(self, upstream: MemoryServiceRequest) -> Upstream:  # noqa: ARG002 - the exchange holds it
        for key, text in self._flaws().items():
            if key not in self._old_flaws and key in self._flaw_makers:
                position, phase = self._flaw_makers[key]
                self.troubles.append(Trouble("upstream", position, phase, key, 0, text))
        return self._stub

    def _trouble_of(self, place: Place, phase: str, error: BaseException) -> Trouble:
        """The exception as the gateway's log names it, without what might tell a secret.

        Raises:
            BaseException: it was raised by what watches, not by the plugin.
        """
        if isinstance(error, Stopped):
            raise error
        # Plugins share a context: what one of them read, another may tell.
        tells = self._watch.has_seen_secrets or any(place.has_secrets for place in self._places.values())
        text = "" if tells else " ".join(_text_of(error).split())[:MOST_TEXT]
        return Trouble("raised", place.position, phase, type(error).__name__, 500, text, _place_of(error))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception that can't say what it is
        return ""


def _place_of(error: BaseException) -> str:
    """The line of the plugin; in the gateway, nothing of what stands in for it here has lines."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        path = PurePath(trace.tb_frame.f_code.co_filename)
        if not _is_stand_in(path):
            place = f"{'/'.join(path.parts[-2:])}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _is_stand_in(path: PurePath) -> bool:
    return path.parent == _HERE or (path.parent == _SDK and (path.name == "walking.py" or path.name.startswith("stand_in_")))


def _headers_of(order: Order) -> dict[str, str | list[str]]:
    headers: dict[str, str | list[str]] = {}
    for name, value in order.stub.headers:
        headers[name] = value
    return headers
