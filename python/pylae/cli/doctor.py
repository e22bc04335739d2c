# SPDX-License-Identifier: Apache-2.0
"""Look whether requests get through, from the client to the server, and say what to change.

Exits with 0 when all is well, with 1 when something was found, with 2 when it could not look.
"""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pylae.cli import api
from pylae.cli import arguments as flags
from pylae.cli import settings as given_settings
from pylae.cli.talk import complain, say, warn
from pylae.errors import PylaeError
from pylae.settings import Settings
from pylae.supervisor import prefix as prefix_directory

if TYPE_CHECKING:
    from pylae.doctor.examination import Examination, Order

FOUND: Final = 1
UNUSABLE: Final = 2
"""The exit code where there is nothing to look at: no Admin API, arguments that mean nothing."""
PATIENCE_S: Final = 5.0
WATCH_S: Final = 10.0
LONGEST_S: Final = 86_400.0
METHODS: Final = ("GET", "HEAD", "OPTIONS")


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="a request as a client would send it; else --service, or every Service"
    )
    parser.add_argument("--service", metavar="NAME", help="name or id of the one Service to look at")
    parser.add_argument(
        "--request", metavar="ID", help="a request that failed: its plugins are run again, its Service is looked at"
    )
    parser.add_argument(
        "-H", "--header", action="append", default=[], metavar="'Name: value'", help="a header that the client sends"
    )
    parser.add_argument("--data", metavar="BODY", help="the body that the client sends; the request is sent, once")
    parser.add_argument(
        "--method", metavar="METHOD", help="the client's method; any but GET, HEAD, OPTIONS is sent only if you say so here"
    )
    parser.add_argument("--hops", action="store_true", help="send a marked request to the URL and say which hops saw it")
    parser.add_argument("--keepalive", action="store_true", help="wait how long servers keep an idle connection; takes a minute")
    for name, whose in (
        ("client", "the client"),
        ("first-lb", "what stands before the gateway"),
        ("second-lb", "what stands behind it"),
    ):
        parser.add_argument(f"--{name}-timeout", type=_seconds, metavar="SECONDS", help=f"how long {whose} waits")
    parser.add_argument(
        "--timeout", type=_seconds, default=PATIENCE_S, metavar="SECONDS", help="patience with each step of a probe"
    )
    parser.add_argument("--json", action="store_true", help="print verdicts as a list, worst first")
    parser.add_argument(
        "--watch", type=_seconds, nargs="?", const=WATCH_S, metavar="SECONDS", help="look again and again, and print what changes"
    )
    flags.add_conf(parser)


def run(arguments: Namespace) -> None:
    """Does it."""
    try:
        settings = given_settings.of_running(arguments)
        order = _order(arguments, settings)
        look = _looker(order, settings)
        findings_there = _watch(arguments, look) if arguments.watch is not None else _once(arguments, look)
    except PylaeError as error:
        complain(error)
        raise SystemExit(UNUSABLE) from None
    if findings_there:
        raise SystemExit(FOUND)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_S:
        raise ArgumentTypeError(f"expected seconds, more than 0, got `{text}`")
    return seconds


def _order(arguments: Namespace, settings: Settings) -> Order:
    """What the flags ask for.

    Raises:
        PylaeError: they contradict each other.
    """
    # Slow to import, and of no use to other commands.
    from pylae.doctor import requests
    from pylae.doctor.budget import Given
    from pylae.doctor.configured import CannotLook
    from pylae.doctor.examination import Order

    if sum(given is not None for given in (arguments.url, arguments.service, arguments.request)) > 1:
        raise CannotLook("a URL or a request leads to its Service: give either a URL, --request, or --service")
    if arguments.url is None and arguments.hops:
        raise CannotLook("--hops needs the URL that clients call")
    if arguments.url is None and arguments.service is None and (arguments.header or arguments.data or arguments.method):
        raise CannotLook("-H, --data and --method need a URL or --service")
    if arguments.watch is not None and (arguments.data is not None or (arguments.method or "GET").upper() not in METHODS):
        raise CannotLook("--watch sends a request again and again: only GET, HEAD and OPTIONS without --data")
    headers = [requests.header_of(text) for text in arguments.header]
    body = (arguments.data or "").encode("utf-8", "surrogateescape")
    method = requests.method_of(arguments.method) if arguments.method else ""
    request = None if arguments.url is None else requests.request_of(arguments.url, headers, body, method)
    return Order(
        request=request,
        request_id=None if arguments.request is None else requests.request_id_of(arguments.request),
        service=arguments.service,
        method=method,
        headers=headers,
        body=body,
        patience_s=arguments.timeout,
        given=Given(*(None if given is None else given * 1000 for given in _waits(arguments))),
        probe_key=_probe_key(settings, is_needed=arguments.hops),
        follows_hops=arguments.hops,
        tests_idleness=arguments.keepalive,
    )


def _waits(arguments: Namespace) -> tuple[float | None, float | None, float | None]:
    return arguments.client_timeout, arguments.first_lb_timeout, arguments.second_lb_timeout


def _probe_key(settings: Settings, *, is_needed: bool) -> bytes | None:
    """What the gateway knows probes by.

    Raises:
        CannotLook: it is needed, and can't be read.
    """
    from pylae.doctor import marks
    from pylae.doctor.configured import CannotLook

    path = Path(settings.prefix) / prefix_directory.PROBE_KEY
    try:
        key = marks.key_of(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        if not is_needed:
            return None
        raise CannotLook(f"{path} can't be read: {error}; hint: run it as the gateway's user, on the gateway's host") from error
    if key is None and is_needed:
        raise CannotLook(f"{path} holds no key; hint: remove it and restart")
    return key


def _looker(order: Order, settings: Settings) -> Callable[[], Examination]:
    import asyncio

    from pylae.doctor.examination import examine_all

    def ask(method: str, path: str, body: object) -> tuple[int, Mapping[str, Any]]:
        return api.call(settings, "admin", method, path, body)

    return lambda: asyncio.run(examine_all(order, settings, ask))


def _once(arguments: Namespace, look: Callable[[], Examination]) -> bool:
    examination = look()
    _print(arguments, examination)
    return bool(examination.findings)


def _print(arguments: Namespace, examination: Examination) -> None:
    import msgspec

    from pylae.doctor.reports import drawn

    if arguments.json:
        documents = [finding.document() for finding in examination.findings]
        say(msgspec.json.format(msgspec.json.encode(documents), indent=2).decode())
    else:
        say(drawn(examination.reports))


def _watch(arguments: Namespace, look: Callable[[], Examination]) -> bool:
    """Looks until it is interrupted; whether the last look found something."""
    from pylae.doctor.reports import changes

    examination = look()
    _print(arguments, examination)
    trouble = ""
    try:
        while True:
            time.sleep(arguments.watch)
            before = examination
            try:
                examination, trouble = look(), ""
            except PylaeError as error:
                # The gateway may be starting anew: that is worth a line, and no end.
                if str(error) != trouble:
                    trouble = str(error)
                    warn(trouble)
                continue
            changed = changes(before.findings, examination.findings)
            if changed and arguments.json:
                _print(arguments, examination)
            elif changed:
                say("\n".join([time.strftime("%Y-%m-%d %H:%M:%S"), *changed]))
    except KeyboardInterrupt:
        return bool(examination.findings)
