# SPDX-License-Identifier: Apache-2.0
"""How does the page read that shows every cause and what was said of it?"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tests.matrix.case import CONFIDENT, GROUPS
from tests.matrix.running import Row
from tests.support.servers.server import find

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fault-matrix.md"

HEAD = """\
# The fault matrix

What is broken on purpose, and what is said of it. Each row is a real request through a real gateway; load balancers are a real
nginx and a real HAProxy, networks are namespaces with a firewall, servers that misbehave do so byte by byte
(`tests/matrix/causes/`). What is right was written down from what was broken, before anything was said. `make matrix` runs all
and writes this page; the fastest part of it runs with every change.

*Client sees*: a status; `closed`: the connection ended; `left`: the client went away itself. *nginx says*: a stock nginx in the
gateway's place, with the same timeouts: what its client sees, and the line in its `error.log`; `-`: it has no such thing.
*Envoy*: the response flag of the same fault, as the verdict names it. *Pylae says*: the hop, the cause (a name of `fault.rs`),
the finding, and how sure it is; below {confident} it names probes that would tell. *Right*: `yes`; `alike`: it names another hop
than the broken one, from where the same would look the same, below {confident} and with probes; `no`.
"""

TITLES = {"dns": "DNS", "tcp": "TCP", "http": "HTTP", "tls": "TLS"}
COLUMNS = (
    "| cause | broken at | variants | client sees | nginx says | Envoy | Pylae says | right |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def figures(rows: Sequence[Row]) -> tuple[int, int]:
    """How many verdicts are right, and how many name a wrong hop at 0.8 or more."""
    return sum(not row.wrong for row in rows), sum(row.is_confidently_wrong for row in rows)


def summary(rows: Sequence[Row], date: datetime.date) -> str:
    """The line all is for."""
    right, confident = figures(rows)
    causes = len({row.case.name for row in rows})
    alike = sum(_right(row) == "alike" for row in rows)
    return (
        f"**{causes} causes, {len(rows)} rows: {right} verdicts right ({100 * right / len(rows):.1f} %), {alike} of them alike; "
        f"a wrong hop at {CONFIDENT} or more: {confident}.** {date.isoformat()}, {version('nginx')}, {version('haproxy')}."
    )


def version(program: str) -> str:
    """As the program says it itself."""
    found = find(program)
    assert found, program
    done = subprocess.run([found, "-v"], capture_output=True, text=True, check=True, timeout=10)
    words = (done.stdout + done.stderr).split()
    if program == "nginx":
        return words[2].replace("/", " ")
    return f"HAProxy {words[2].split('-')[0]}"


def page(rows: Sequence[Row], date: datetime.date) -> str:
    """All of it."""
    parts = [HEAD.format(confident=CONFIDENT), summary(rows, date), ""]
    for group in GROUPS:
        of_group = [row for row in rows if row.case.group == group]
        parts += [f"## {TITLES.get(group, group.capitalize())}", "", COLUMNS + "".join(_lines(of_group))]
    wrong = [row for row in rows if row.wrong]
    if wrong:
        parts += ["## What is wrong", ""]
        parts += [f"- `{row.case.name}` ({row.variant}): {'; '.join(row.wrong)}" for row in wrong]
    return "\n".join(parts).rstrip() + "\n"


def _lines(rows: Iterable[Row]) -> Iterable[str]:
    """Variants of a cause that met the same share a line."""
    for _, of_case in groupby(rows, lambda row: row.case.name):
        met: dict[tuple[str, ...], list[Row]] = {}
        for row in of_case:
            met.setdefault(_cells(row), []).append(row)
        for cells, same in met.items():
            variants = "; ".join(str(row.variant) for row in same)
            title = f"{same[0].case.title} `{same[0].case.name}`"
            broken = " or ".join(sorted(same[0].case.right.hops)) or "nobody can tell"
            yield "| " + " | ".join(map(_cell, (title, broken, variants, *cells))) + " |\n"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = row.verdict
    said = f"{verdict.get('hop')}: `{verdict.get('cause')}`, `{verdict.get('finding')}`, {verdict.get('confidence')}"
    nginx = "-"
    if row.stock:
        nginx = f"{row.stock.client}: {row.stock.phrase}" if row.stock.phrase else f"{row.stock.client}, no line"
    flag = (verdict.get("flags") or {}).get("envoy") or "-"
    return row.client, nginx, flag, said, _right(row)


def _right(row: Row) -> str:
    if row.wrong:
        return "no"
    return "yes" if row.verdict.get("hop") in row.case.right.hops else "alike"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
