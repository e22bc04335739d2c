# SPDX-License-Identifier: Apache-2.0
"""What does the gateway say of one cause in one variant, and is it right?"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.matrix import stock
from tests.matrix.bed import Bed
from tests.matrix.case import CONFIDENT, Broken, Case, Right, Variant
from tests.support import raw
from tests.support.wait import until

CLOSED = "closed"
# All of our timeouts are far below.
PATIENCE_S = 8
WARM_SUFFIX = "/ok"


@dataclass
class Row:
    """One line of the table.

    Attributes:
        client: what the client saw: a status, `closed`, or both.
        said: the phrase in our error.log.
        access_fault: the fault at the end of the access line.
        stock: what stock nginx wrote of the same.
        wrong: why the verdict is wrong; empty when it is right.
        is_confidently_wrong: another hop than the broken one, at 0.8 or more.
    """

    case: Case
    variant: Variant
    client: str
    document: dict[str, Any]
    said: str = ""
    access_fault: str = ""
    stock: stock.Said | None = None
    took_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    is_confidently_wrong: bool = False

    @property
    def verdict(self) -> dict[str, Any]:
        """What the gateway concluded."""
        verdict: dict[str, Any] = self.document.get("verdict") or {}
        return verdict


def run(bed: Bed, case: Case, variant: Variant, *, with_stock: bool = False) -> Row:
    """Break it, send the request, ask for the verdict, judge it."""
    began_s = time.monotonic()
    gateway = bed.gateway
    for log in (gateway.access_log, gateway.error_log, gateway.failures):
        log.mark()
    with case.inject(bed, variant) as broken:
        path = broken.path or _path(bed, broken)
        if variant.reused:
            warm = gateway.get(path + WARM_SUFFIX)
            assert warm.status == 200, f"the good request before met {warm.status} {warm.text}"
        if broken.armed:
            broken.armed.set()
        client, request_id = send(broken, gateway.proxy_port, path)
        if request_id is None:
            request_id = until(lambda: _logged_id(bed, path + broken.suffix), f"an access line for {path}", 8)
        document = explain(bed, request_id)
        if broken.check:
            broken.check()
        if variant.reused:
            assert document["attempts"][0]["reused"], "the connection was not the pooled one"
        stock_said = None
        if with_stock and case.is_stock and broken.url:
            stock_said = stock.ask(bed, broken, variant)
    row = Row(case, variant, client, document, stock=stock_said, took_s=time.monotonic() - began_s)
    row.said = said(bed, request_id)
    row.access_fault = _access_fault(bed, request_id)
    judge(row)
    return row


def _path(bed: Bed, broken: Broken) -> str:
    return bed.blueprints.path(broken.url, **{"retries": 0, **broken.service})


def send(broken: Broken, gateway_port: int, path: str) -> tuple[str, str | None]:
    """Send the request; what the client saw, and the id in what it saw."""
    target = path + broken.suffix
    data = broken.data(target) if broken.data else raw.request(broken.method, target, *broken.lines, body=broken.body)
    with raw.Client(broken.port or gateway_port, timeout_s=PATIENCE_S) as client:
        # One that is answered early may not take the rest.
        with contextlib.suppress(ConnectionError):
            client.send(data)
        if broken.leave_after:
            broken.leave_after()
            return "left", None
        try:
            reply = client.read_reply(broken.method)
        except raw.ClosedEarly as error:
            if error.reply is None:
                return CLOSED, None
            return f"{error.reply.status}, {CLOSED}", error.reply.header("X-Kong-Request-Id")
        except TimeoutError:
            return "hangs", None
    return str(reply.status), reply.header("X-Kong-Request-Id")


def _logged_id(bed: Bed, target: str) -> str | None:
    for line in bed.gateway.access_log.containing(f" {target} "):
        return line.split('kong_request_id: "')[1].split('"')[0]
    return None


def explain(bed: Bed, request_id: str) -> dict[str, Any]:
    """`GET /explain/{id}`; the record is on its way to control when the answer has come."""

    def found() -> dict[str, Any] | None:
        answer = bed.gateway.admin.call("GET", f"/explain/{request_id}")
        assert answer.status in (200, 404), answer
        return answer.json if answer.status == 200 else None

    document: dict[str, Any] = until(found, f"an explanation of {request_id}", 8)
    return document


def said(bed: Bed, request_id: str) -> str:
    """The phrase of nginx in our error.log, of the last line about this request."""
    lines = [line for line in bed.gateway.error_log.containing(request_id) if ", client: " in line]
    return stock.phrase(lines[-1]) if lines else ""


def _access_fault(bed: Bed, request_id: str) -> str:
    (line, *_) = bed.gateway.access_log.wait_for(f'kong_request_id: "{request_id}"')
    _, mark, rest = line.partition('fault: "')
    return rest.split('"')[0] if mark else ""


def judge(row: Row) -> None:
    """Compare the verdict with what was broken."""
    rule: Right = row.case.right
    verdict = row.verdict
    hop, cause, confidence = verdict.get("hop"), verdict.get("cause"), float(verdict.get("confidence") or 0)
    if hop not in rule.hops:
        row.is_confidently_wrong = confidence >= CONFIDENT
        if hop not in rule.unsure_hops or row.is_confidently_wrong:
            row.wrong.append(f"hop {hop} at {confidence}, broken was {_names(rule.hops)}")
    if cause not in rule.causes:
        row.wrong.append(f"cause {cause}, right is {_names(rule.causes)}")
    if rule.findings and verdict.get("finding") not in rule.findings:
        row.wrong.append(f"finding {verdict.get('finding')}, right is {_names(rule.findings)}")
    if confidence < CONFIDENT and not verdict.get("probes"):
        row.wrong.append(f"unsure ({confidence}) without a probe that would tell")
    text = json.dumps([verdict.get(part) for part in ("finding", "summary", "evidence", "cure", "probes")]).casefold()
    if verdict.get("finding") in rule.misleading:
        row.wrong.append(f"finding {verdict.get('finding')} leads elsewhere")
    for word in rule.words:
        if not any(one.casefold() in text for one in word.split("|")):
            row.wrong.append(f"nothing is said of `{word}`")


def _names(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
