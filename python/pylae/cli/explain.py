# SPDX-License-Identifier: Apache-2.0
"""Say why a request failed: which hop broke, what shows it, what mends it.

The id is that of the answer's X-Kong-Request-Id header, of its body, and of the lines in error.log. The gateway is
asked first; what it does not know any more, or cannot say because it does not run, is looked for in its log of failures.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pylae.cli import arguments as flags
from pylae.cli import settings as command_settings
from pylae.cli.api import call
from pylae.cli.talk import CommandFailed, explain, say
from pylae.explain.document import document_of
from pylae.explain.drawing import Style, draw
from pylae.settings import Settings

LOGS: Final = ("failures.jsonl", "failures.jsonl.1")
BLOCK_BYTES: Final = 256 * 1024
LONGEST_LINE_BYTES: Final = 64 * 1024
"""Four times what a worker writes of one request; what is longer is no record."""
_ID_DIGITS: Final = 32
_NOT_FOUND: Final = 404


def declare(parser: ArgumentParser) -> None:
    """Its flags."""
    flags.add_conf(parser)
    parser.add_argument("id", metavar="ID", help="the request's id, 32 hexadecimal digits")
    parser.add_argument("--json", action="store_true", help="print the whole document")


def run(arguments: Namespace) -> None:
    """Does it.

    Raises:
        CommandFailed: nothing is known of the request.
    """
    request_id = arguments.id.strip().lower()
    if len(request_id) != _ID_DIGITS or not set(request_id) <= set("0123456789abcdef"):
        raise CommandFailed(f"`{arguments.id[:80]}` is no request id: expected {_ID_DIGITS} hexadecimal digits")
    settings = command_settings.of_running(arguments)
    document = _asked(settings, request_id) or _searched(settings, request_id)
    if document is None:
        raise CommandFailed(
            f"nothing is known of request {request_id}: it did not fail, or its record was given up since "
            f"(explain_keep_count, explain_keep_s, and {Path(settings.prefix) / 'logs' / LOGS[0]})"
        )
    if arguments.json:
        # In ASCII alone: a terminal takes some letters beyond it for commands.
        say(json.dumps(document, indent=2))
        return
    say(draw(document, _style()))


def _asked(settings: Settings, request_id: str) -> Mapping[str, Any] | None:
    """What the running gateway answers; `None` when it does not know the request, or does not run."""
    try:
        status, found = call(settings, "admin", "GET", f"/explain/{request_id}")
    except CommandFailed as error:
        explain(f"the gateway was not asked: {error}")
        return None
    if status == 200:
        return found
    if status != _NOT_FOUND:
        explain(f"the gateway answered {status}: {found.get('message')}")
    return None


def _searched(settings: Settings, request_id: str) -> Mapping[str, Any] | None:
    """What the log of failures holds; the newest line that names the request."""
    wanted = request_id.encode()
    for name in LOGS:
        path = Path(settings.prefix) / "logs" / name
        explain(f"looking into {path}")
        try:
            for line in lines_from_end(path):
                if wanted in line and (document := _of_line(settings, line, request_id)) is not None:
                    return document
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CommandFailed(f"{path} can't be read: {error.strerror}") from error
    return None


def _of_line(settings: Settings, line: bytes, request_id: str) -> Mapping[str, Any] | None:
    """The document of a line, if it is of this request and not of one that only names it."""
    document = document_of(line, admin_url=_admin_url(settings), route_explanation=None, is_config_current=False)
    if document["request_id"] != request_id:
        return None
    # Nobody runs who could say it.
    del document["is_config_current"]
    return document


def _admin_url(settings: Settings) -> str:
    """Where the Admin API is reached from here."""
    listeners = sorted(settings.listeners("admin"), key=lambda listener: listener.is_tls)
    if not listeners:
        return "http://localhost:8001"
    scheme = "https" if listeners[0].is_tls else "http"
    host = listeners[0].address
    host = "localhost" if host in ("0.0.0.0", "127.0.0.1", "::", "::1") else f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{listeners[0].port}"


def lines_from_end(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first, without their ends, in bounded memory.

    A line longer than `LONGEST_LINE_BYTES` is left out.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        is_too_long = False
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position -= size
            file.seek(position)
            first, *lines = (file.read(size) + rest).split(b"\n")
            if lines and is_too_long:
                # The end of what was too long begins here.
                lines.pop()
                is_too_long = False
            yield from (line for line in reversed(lines) if line and len(line) <= LONGEST_LINE_BYTES)
            rest = first
            if len(rest) > LONGEST_LINE_BYTES:
                rest, is_too_long = b"", True
        if rest and not is_too_long:
            yield rest


def _style() -> Style:
    """As the terminal at hand takes it."""
    output = sys.stdout
    is_terminal = output is not None and output.isatty()
    encoding = (getattr(output, "encoding", None) or "ascii").lower().replace("-", "")
    return Style(
        width=shutil.get_terminal_size((100, 24)).columns if is_terminal else 100,
        is_ascii=not encoding.startswith("utf"),
        is_coloured=is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb",
    )
