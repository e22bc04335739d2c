# SPDX-License-Identifier: Apache-2.0
"""What is broken on purpose, how, and which verdicts of it are right?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.matrix.bed import Bed

GROUPS = (
    "dns",
    "network",
    "tcp",
    "http",
    "tls",
    "timeouts",
    "keep-alive",
    "load balancers",
    "plugins",
    "gateway",
    "client",
)

# From here on a verdict claims to have excluded every other hop.
CONFIDENT = 0.8


@dataclass(frozen=True)
class Variant:
    """How the gateway speaks with what is broken.

    Attributes:
        scheme: `http` or `https`.
        reused: on a connection that carried a good request before.
        mutual: the server wants a certificate of the client.
    """

    scheme: str = "http"
    reused: bool = False
    mutual: bool = False

    def __str__(self) -> str:
        scheme = "mtls" if self.mutual else self.scheme
        return f"{scheme}, {'reused' if self.reused else 'fresh'}"


FRESH, REUSED = Variant(), Variant(reused=True)
TLS_FRESH, TLS_REUSED = Variant("https"), Variant("https", reused=True)
MUTUAL = Variant("https", mutual=True)

ALL = (FRESH, REUSED, TLS_FRESH, TLS_REUSED)
BOTH_SCHEMES = (FRESH, TLS_FRESH)
BOTH_REUSED = (REUSED, TLS_REUSED)
PLAIN = (FRESH, REUSED)


@dataclass(frozen=True)
class Right:
    """Which verdicts are right: written down from what was broken, never from what was said of it.

    Attributes:
        hops: where it was broken.
        causes: names of `fault.rs`.
        unsure_hops: where the same would look the same from the gateway: right only when said below 0.8.
        words: each must stand in the summary, the evidence, the cure or the probes, whatever its case; `a|b`: one of them.
        findings: if any, the finding is one of them.
        misleading: findings that would send people elsewhere.
    """

    hops: frozenset[str]
    causes: frozenset[str]
    unsure_hops: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    findings: frozenset[str] = frozenset()
    misleading: frozenset[str] = frozenset()


def right(hops: str, causes: str, *words: str, unsure: str = "", findings: str = "", misleading: str = "") -> Right:
    """`Right` from names with blanks between."""
    return Right(
        hops=frozenset(hops.split()),
        causes=frozenset(causes.split()),
        unsure_hops=frozenset(unsure.split()),
        words=words,
        findings=frozenset(findings.split()),
        misleading=frozenset(misleading.split()),
    )


class Switch(Protocol):
    """Turns the fault on and off; an event is one."""

    def set(self) -> None:
        """From now on it is broken."""

    def clear(self) -> None:
        """From now on it is good."""


@dataclass
class Broken:
    """Something broken, and the request that meets it.

    Attributes:
        url: of the Service; empty when `path` is given.
        service: more fields of the Service.
        path: of a Route that was made already.
        suffix: after the Route's path.
        armed: while it is clear, what is broken answers well; None: it is always broken, or good under `/ok`.
        data: the bytes to send, given the path; else a request of `method`, `lines` and `body`.
        port: where to send; None: to the gateway.
        leave_after: the client leaves after this condition is met, without an answer.
        check: looked at after the answer, that what was to be broken was.
    """

    url: str = ""
    method: str = "GET"
    lines: tuple[str, ...] = ()
    body: bytes | None = None
    service: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    suffix: str = ""
    armed: Switch | None = None
    data: Callable[[str], bytes] | None = None
    port: int | None = None
    leave_after: Callable[[], object] | None = None
    check: Callable[[], object] | None = None


Injection = Callable[["Bed", Variant], AbstractContextManager[Broken]]


@dataclass(frozen=True)
class Case:
    """One cause.

    Attributes:
        name: of the function that breaks it.
        group: one of `GROUPS`.
        title: in the reader's words.
        inject: breaks it for as long as it is entered.
        variants: those it applies to.
        right: the verdicts that are right.
        is_fast: runs with every change.
        is_stock: stock nginx can stand in the gateway's place.
        needs_network: runs where namespaces are allowed.
    """

    name: str
    group: str
    title: str
    inject: Injection
    variants: tuple[Variant, ...]
    right: Right
    is_fast: bool = False
    is_stock: bool = True
    needs_network: bool = False


CASES: list[Case] = []


def cause(
    group: str,
    title: str,
    right: Right,
    variants: tuple[Variant, ...] = (FRESH,),
    *,
    is_fast: bool = False,
    is_stock: bool = True,
    needs_network: bool = False,
) -> Callable[[Callable[[Bed, Variant], Iterator[Broken]]], Injection]:
    """Make a case of the generator that breaks something, yields, and mends it."""
    assert group in GROUPS

    def register(function: Callable[[Bed, Variant], Iterator[Broken]]) -> Injection:
        inject = contextmanager(function)
        CASES.append(Case(function.__name__, group, title, inject, variants, right, is_fast, is_stock, needs_network))
        return inject

    return register
