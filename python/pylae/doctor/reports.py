# SPDX-License-Identifier: Apache-2.0
"""What was looked at and what came of it, as a checklist?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pylae.doctor.findings import Finding, worst_first
from pylae.explain.words import escaped

Mark = Literal["well", "wrong", "unknown"]
MARKS: Final[dict[Mark, str]] = {"well": "✓", "wrong": "✗", "unknown": "?"}
CHECK_WIDTH: Final = 12
MOST_ATTEMPTS: Final = 8
LINE_WIDTH: Final = 200
MOST_WHOLE: Final = 4
"""Subjects that are drawn with every check; of more, only those where something was found."""


@dataclass(frozen=True, slots=True)
class Line:
    """One check."""

    mark: Mark
    check: str
    text: str

    def __str__(self) -> str:
        return f"  {MARKS[self.mark]} {self.check.ljust(CHECK_WIDTH)} {escaped(self.text, LINE_WIDTH)}".rstrip()


@dataclass(slots=True)
class Report:
    """All checks of one subject.

    Attributes:
        drawing: lines of a table below the checks.
        places: addresses that were spoken to.
    """

    title: str
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    drawing: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, check: str, text: str, findings: Iterable[Finding] = (), *, is_known: bool = True) -> None:
        """Notes a check: wrong if anything was found."""
        found = list(findings)
        self.findings += found
        self.lines.append(Line("wrong" if found else "well" if is_known else "unknown", check, text))


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """What is the same at several addresses as one finding that names them all."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.hop, finding.cause, finding.finding, finding.written_by, finding.is_broken), []).append(
            finding
        )
    found = []
    for group in groups.values():
        first = max(group, key=lambda finding: finding.confidence)
        others = [finding for finding in group if finding is not first]
        if others:
            attempts = [attempt for finding in (first, *others) for attempt in finding.attempts]
            more = [str(attempt.get("address")) for finding in others for attempt in finding.attempts]
            told = f"the same at {', '.join(more[:MOST_ATTEMPTS])}" + (" …" if len(more) > MOST_ATTEMPTS else "")
            first = replace(first, attempts=tuple(attempts[:MOST_ATTEMPTS]), evidence=(*first.evidence, told))
        found.append(first)
    return found


def drawn(reports: Sequence[Report]) -> str:
    """The checklist, and below it what was found with its cure, for people."""
    is_short = len(reports) > MOST_WHOLE
    well = [report for report in reports if is_short and not report.findings]
    whole = [report for report in reports if not is_short or report.findings]
    blocks = [[report.title, *map(str, report.lines), *(f"      {line}" for line in report.drawing)] for report in whole]
    if well:
        blocks.insert(0, [in_short(report) for report in well])
    findings = worst_first(finding for report in reports for finding in report.findings)
    text = "\n\n".join("\n".join(block) for block in blocks)
    if not findings:
        return f"{text}\n\nnothing found" if text else "nothing found"
    return f"{text}\n\n" + "\n\n".join(finding_drawn(number, finding) for number, finding in enumerate(findings, 1))


def in_short(report: Report) -> str:
    """One line of a subject that is well."""
    unknown = [line.check for line in report.lines if line.mark == "unknown"]
    hint = f"  (? {', '.join(unknown)})" if unknown else ""
    return f"{MARKS['well']} {report.title}{hint}"


def finding_drawn(number: int, finding: Finding) -> str:
    """One finding for people."""
    verdict = finding.document()["verdict"]
    about = f" [{escaped(finding.subject, 100)}]" if finding.subject else ""
    kind = "" if finding.is_broken else "warning: "
    sure = f"{finding.confidence:.0%}"
    lines = [
        f"{number}. {verdict['summary']}{about}",
        f"   {kind}{finding.cause} ({finding.finding}); hop {finding.hop}, phase {finding.phase}; sure to {sure}",
    ]
    lines += [f"   - {line}" for line in verdict["evidence"]]
    lines += [f"   cure: {line}" for line in verdict["cure"]]
    lines += [f"   would tell: {line}" for line in verdict["probes"]]
    return "\n".join(lines)


def changes(before: Sequence[Finding], after: Sequence[Finding]) -> list[str]:
    """What is new, and what is gone, a line each."""
    old, new = {finding.key: finding for finding in before}, {finding.key: finding for finding in after}
    told = [("+", finding) for key, finding in new.items() if key not in old]
    told += [("-", finding) for key, finding in old.items() if key not in new]
    return [
        f"{sign} {finding.cause} ({finding.finding}) {escaped(finding.summary, LINE_WIDTH)}"
        + (f" [{escaped(finding.subject, 100)}]" if finding.subject else "")
        for sign, finding in told
    ]
