# SPDX-License-Identifier: Apache-2.0
"""What did a real Kong answer, and what of that must we answer to the letter?"""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.raw import Reply, parse_head

FOLDER = Path(__file__).parents[1] / "cases" / "transcripts"
REPOSITORY = Path(__file__).parents[2]
RECORDED_IDENTITY = "kong/3.10.0"
VERSION: str = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
IDENTITY = f"pylae/{VERSION}"
# What the upstream is told when the client named no host: nginx's server_name.
RECORDED_HOST, HOST = "X-Forwarded-Host: kong\n", "X-Forwarded-Host: pylae\n"
RECORDED_USER_AGENT = "curl/7.88.1"
# What `<aaaa...>` stands for in a recorded command: more than one header buffer of 8 KiB.
LONG = "a" * 20_000
ECHO = b"you sent:\n"
NGINX_PAGE = b"<html>\n<head><title>"

MARKER = re.compile(r"\[(curl exit \d+|server closed the connection|no more data .*)\]")
PORT = re.compile(r"\b18(?:000|001|443|7\d\d)\b")
NGINX = re.compile(r"\bnginx/\d+\.\d+\.\d+\b")
ERROR_LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?P<level>\w+)\] \d+#\d+: (?:\*\d+ )?(?P<message>.*)", re.DOTALL)
ACCESS_LINE = re.compile(
    r'(?P<address>\S+) - (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<request>.*?)" (?P<status>\d{3}) (?P<bytes>\d+) '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)" kong_request_id: "(?P<id>[0-9a-f]*)"'
    r'(?: fault: "(?P<fault>\w+)")?'
)
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (\w{3}) \d{4} \d\d:\d\d:\d\d GMT")
# Levels that say a request was lost; what is below them is talk.
GRAVE = ("error", "crit", "alert", "emerg")


@dataclass(frozen=True)
class Section:
    """One recorded exchange.

    Attributes:
        service: the Service of the file's head, None in client_errors.
        command: the curl command line, or the Python literal of the raw bytes.
        reply: what the client got, lines ended by LF, without the marker.
        ending: `curl exit 0`, `server closed the connection`, ...; empty when the client left.
        error_lines: of error.log.
        access_lines: of access.log.
        attempts: connections that the recorded origin counted; None where it did not.
        why: the reason of an answer of ours that is not Kong's; empty for a recording.
    """

    file: str
    title: str
    service: dict[str, Any] | None
    command: str
    is_raw: bool
    reply: str
    ending: str
    error_lines: tuple[str, ...]
    access_lines: tuple[str, ...]
    attempts: int | None
    why: str = ""

    @property
    def name(self) -> str:
        """File and title, fit for a test id."""
        return f"{self.file}: {self.title}"

    @property
    def path(self) -> str:
        """Path of the request, without the query."""
        if self.is_raw:
            words = self._literal().split()
            return words[1].decode("latin-1") if len(words) > 1 else ""
        url = next(word for word in shlex.split(self.command) if word.startswith("http"))
        return "/" + url.split("/", 3)[3]

    def _literal(self) -> bytes:
        literal: bytes = ast.literal_eval(self.command)
        return literal

    def request(self, authority: str) -> tuple[str, bytes]:
        """Method and bytes to send.

        Args:
            authority: host and port of the gateway, for Host.
        """
        if self.is_raw:
            data = self._literal()
            return data.split(b" ", 1)[0].decode("latin-1"), data
        return _curl(self.command.replace("<aaaa...>", LONG), authority)


def _curl(command: str, authority: str) -> tuple[str, bytes]:
    """What curl 7.88.1 sends for this command line."""
    method, body, extra, path = "", None, [], "/"
    words = iter(shlex.split(command)[1:])
    for word in words:
        if word == "-I":
            method = "HEAD"
        elif word == "-X":
            method = next(words)
        elif word == "-d":
            body = next(words).encode()
        elif word == "-H":
            extra.append(next(words))
        elif word.startswith("http"):
            path = "/" + word.split("/", 3)[3]
        else:
            assert word in ("-si", "-s", "-i", "--http0.9"), f"unknown curl option {word}"
    named = {line.partition(":")[0].lower() for line in extra}
    lines = [f"Host: {authority}", f"User-Agent: {RECORDED_USER_AGENT}"]
    if "accept" not in named:
        lines.append("Accept: */*")
    lines += extra
    if body is not None:
        method = method or "POST"
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/x-www-form-urlencoded"]
    method = method or "GET"
    return method, "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + (body or b"")


def parse(path: Path) -> list[Section]:
    """The sections of one file, in order."""
    head, *parts = path.read_bytes().decode().replace("\r\n", "\n").split("\n### ")
    service = re.search(r"^# service: (.*)$", head, re.MULTILINE)
    return [_section(path.stem, json.loads(service[1]) if service else None, part) for part in parts]


def _section(file: str, service: dict[str, Any] | None, text: str) -> Section:
    title, _, text = text.partition("\n")
    why = ""
    while text.startswith("# "):
        line, _, text = text.partition("\n")
        why += line.removeprefix("# ").removeprefix("why: ") + " "
    command, _, text = text.partition("\n")
    answer, _, logs = text.partition("--- error.log\n")
    errors, _, rest = logs.partition("--- access.log\n")
    access, _, attempts = rest.partition("--- upstream connections seen by the mock: ")
    marker = list(MARKER.finditer(answer))
    reply = answer[: marker[-1].start()] if marker else answer
    return Section(
        file=file,
        title=title,
        service=service,
        command=command[2:],
        is_raw=command.startswith("> "),
        reply=reply.removesuffix("\n"),
        ending=marker[-1][1] if marker else "",
        error_lines=tuple(line for line in errors.splitlines() if line),
        access_lines=tuple(line for line in access.splitlines() if line.strip()),
        attempts=int(attempts.split()[0]) if attempts.strip() else None,
        why=why.strip(),
    )


@cache
def load(*files: str) -> list[Section]:
    """Recorded sections, those of `ours/` in the place of Kong's where we answer better.

    Args:
        *files: stems; none means all but admin_errors, which tests/admin replays.
    """
    stems = files or tuple(sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem != "admin_errors"))
    better = {(section.file, section.title): section for path in (FOLDER / "ours").glob("*.txt") for section in parse(path)}
    recorded = [section for stem in stems for section in parse(FOLDER / f"{stem}.txt")]
    known = {(section.file, section.title) for section in recorded}
    unknown = [key for key in better if key not in known and key[0] in stems]
    assert not unknown, f"ours/ answers what was never recorded: {unknown}"
    for section in better.values():
        assert section.why, f"ours/{section.file}: {section.title} does not say why"
    return [
        replace(better[section.file, section.title], service=section.service)
        if (section.file, section.title) in better
        else section
        for section in recorded
    ]


@dataclass
class Terms:
    """What stands in our answers where the recording has its own ports and names.

    Attributes:
        ports: recorded port → ours.
        nginx: `nginx/<version>` of the nginx that plays the origin.
    """

    ports: dict[int, int]
    nginx: str = "nginx/1.22.1"
    request_id: str = field(default="", init=False)

    def translate(self, text: str, recorded_id: str = "") -> str:
        """A recorded text in our terms."""
        text = text.replace(RECORDED_IDENTITY, IDENTITY).replace(RECORDED_HOST, HOST)
        text = PORT.sub(lambda match: str(self.ports.get(int(match[0]), match[0])), text)
        text = NGINX.sub(self.nginx, text)
        return text.replace(recorded_id, self.request_id) if recorded_id else text


@dataclass(frozen=True)
class Expected:
    """A recorded reply in our terms.

    Attributes:
        head: None where nothing, or a bare body, came.
        body: with CRLF where the origin's echo had them.
        growth_bytes: how much longer our body is than the recorded one, for names and ports of another length.
    """

    head: Reply | None
    interim: tuple[int, ...]
    body: bytes
    growth_bytes: int


def expect(section: Section, terms: Terms) -> Expected:
    """What the section's reply must be."""
    interim: list[int] = []
    text = section.reply
    recorded_id = recorded_request_id(section)
    while True:
        if not text.startswith("HTTP/"):
            head, body = None, text
            break
        first, _, rest = text.partition("\n\n")
        parsed = parse_head(terms.translate(first, recorded_id).replace("\n", "\r\n").encode("latin-1"))
        if parsed.status < 200:
            interim.append(parsed.status)
            text = rest
            continue
        head, body = parsed, rest
        break
    ours = _restore(terms.translate(body, recorded_id))
    growth_bytes = len(ours) - len(_restore(body))
    if head is not None and growth_bytes and (length := head.header("Content-Length")):
        head.headers = [
            (name, str(int(length) + growth_bytes) if name == "Content-Length" else value) for name, value in head.headers
        ]
    return Expected(head, tuple(interim), ours, growth_bytes)


def recorded_request_id(section: Section) -> str:
    """The id under which Kong's logs spoke of this request."""
    for line in section.access_lines:
        if found := ACCESS_LINE.search(line):
            return found["id"]
    return ""


def _restore(body: str) -> bytes:
    """nginx's own pages and the echo of a request head get back the CRLFs that the reader, or the recorder, made LF."""
    data = body.encode()
    if data.startswith(NGINX_PAGE):
        return data.replace(b"\n", b"\r\n")
    if not data.startswith(ECHO):
        return data
    head, blank, sent = data[len(ECHO) :].partition(b"\n\n")
    return ECHO + (head + blank).replace(b"\n", b"\r\n") + sent


def comparable_headers(reply: Reply) -> list[tuple[str, str]]:
    """Names in their case and values, sorted, with what changes from run to run named instead of shown."""
    found: list[tuple[str, str]] = []
    for name, value in reply.headers:
        lower = name.lower()
        if lower == "access-control-allow-origin" or not value:
            continue  # the origin allowed is ours (no `*`), and a header without a value says nothing
        if lower == "connection":
            found += [(name, token.strip()) for token in value.split(",")]
            continue
        if lower == "date":
            assert DATE.fullmatch(value), f"not a date: {value}"
            value = "<date>"
        elif lower.endswith("-latency"):
            assert value.isdigit(), f"{name} is not in ms: {value}"
            value = "<ms>"
        elif lower == "x-kong-request-id":
            assert re.fullmatch("[0-9a-f]{32}", value), f"not a request id: {value}"
            value = "<id>"
        elif lower in ("ratelimit-reset", "retry-after"):
            assert 1 <= int(value) <= 60, f"{name}: {value}"
            value = "<s>"
        found.append((name, value))
    return sorted(found)


def comparable_body(body: bytes) -> object:
    """An echo as its request line, its header lines sorted, and the body sent; anything else as it is."""
    if not body.startswith(ECHO):
        return body
    head, _, sent = body[len(ECHO) :].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return (first, sorted(lines), sent)


def comparable_error(line: str) -> str:
    """Level and message of an error.log line, without date, pids, connection number and Lua's place."""
    match = ERROR_LINE.fullmatch(line)
    assert match, f"not an nginx error line: {line}"
    message = re.sub(r"^\[lua\] \S+ \w+\(\): ", "", match["message"])
    message = re.sub(r'\. Tried: \["(?:[^"\\]|\\.)*"(?:,"(?:[^"\\]|\\.)*")*\]', "", message)
    message = re.sub(r", server: \w+", ", server: <name>", message)
    return f"[{match['level']}] {message}"


def is_grave(line: str) -> bool:
    """Whether an error.log line says that a request was lost."""
    match = ERROR_LINE.fullmatch(line)
    return bool(match and match["level"] in GRAVE)


def comparable_access(line: str, growth_bytes: int = 0) -> str:
    """An access.log line without its date, id and fault, a long run of `a` shortened as the recording did."""
    match = ACCESS_LINE.fullmatch(line)
    assert match, f"not an access line: {line}"
    request = re.sub("a{1000,}", "<aaaa...>", match["request"])
    count_bytes = int(match["bytes"]) + growth_bytes
    who, agent = f"{match['address']} - {match['user']}", f'"{match["referer"]}" "{match["agent"]}"'
    return f'{who} "{request}" {match["status"]} {count_bytes} {agent}'
