# SPDX-License-Identifier: Apache-2.0
"""What came of walking a request through its plugins again, in the shape of a verdict?

Certain is only what was seen twice: in the record and in the replay. What one of them shows and the other does not is
told with both, and with less confidence.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pylae.doctor.findings import Finding, Phase
from pylae.doctor.replay.asking import entries
from pylae.doctor.replay.order import Member, Order, Report, Trouble
from pylae.explain.words import escaped

Row = Mapping[str, Any]

ADMIN_URL: Final = "http://localhost:8001"
PHASES: Final[Mapping[str, Phase]] = {
    "rewrite": "rewrite",
    "response": "filter",
    "header_filter": "filter",
    "body_filter": "filter",
    "log": "done",
}
"""Where in a request's journey a plugin's phase is; all others are `access`."""
FAILED: Final = frozenset({"plugin_failed", "filter_failed"})
REFUSED: Final = frozenset({"plugin_refused"})
NO_CONNECTION: Final = frozenset({"connect_failed", "connect_refused", "connect_timeout", "dns_failed", "resolver_failed"})
TOO_LONG: Final = "header_too_large_behind"


def findings(
    order: Order,
    report: Report,
    *,
    record: Row | None = None,
    admin_url: str = ADMIN_URL,
    is_config_current: bool | None = None,
) -> list[Finding]:
    """What is wrong; empty when nothing failed and nothing that was recorded is left open.

    Args:
        order: What was asked for.
        report: What came of it.
        record: What the order was made of; None for a request that somebody described.
        admin_url: Where the calls of a cure go to.
        is_config_current: Whether the record was made under the configuration that the rows are of.
    """
    return _Telling(order, report, record, admin_url, is_config_current=is_config_current).all()


def left_out(report: Report) -> list[str]:
    """A sentence for each plugin that was not run, in the order they would."""
    sentences = {
        "assumed": "`{0}` is assumed to have found whom the record names: no secret is kept that it could be run with",
        "not_run": "`{0}` was not run: {1}",
        "unknown": "`{0}` is unknown: {1}",
    }
    return [sentences[member.mode].format(member.name, member.reason) for member in report.members if member.mode != "run"]


class _Telling:
    """One replay, being told."""

    def __init__(
        self, order: Order, report: Report, record: Row | None, admin_url: str, *, is_config_current: bool | None
    ) -> None:
        self._report = report
        self._order = order
        self._record = record or {}
        self._is_captured = record is not None
        self._admin_url = admin_url.rstrip("/")
        self._is_config_current = is_config_current
        self._by_position = {member.position: member for member in report.members}
        self._trouble = report.whole.trouble if report.whole is not None else None

    def all(self) -> list[Finding]:
        found = []
        if self._trouble is not None:
            found.append(self._of_trouble(self._trouble))
        recorded = self._recorded_plugin()
        if recorded is not None and not self._is_reproduced():
            found.append(self._of_record(*recorded))
        if self._report.whole is not None:
            found += [self._of_log(trouble) for trouble in self._report.whole.log_troubles]
        return found

    # What was seen again.

    def _of_trouble(self, trouble: Trouble) -> Finding:
        members = [self._by_position[position] for position in self._set_of(trouble)]
        evidence = [_sentence_of(trouble, self._name(trouble.position)), *self._sentences_of_set(members)]
        evidence += self._sentences_of_record()
        if trouble.phase in ("response", "header_filter", "body_filter"):
            evidence.append(f"the upstream was a stand-in that answered {self._order.stub.status}")
        if not self._report.is_steady:
            evidence.append("run a second time the same chain did not fail alike: one of these plugins is not pure")
        if self._report.is_busy:
            evidence.append("the machine was too busy to look further")
        names = " and ".join(f"`{member.name}`" for member in members)
        together = "together make" if len(members) > 1 else "makes"
        confidence = self._confidence(trouble)
        return Finding(
            hop="plugin",
            phase=PHASES.get(trouble.phase, "access"),
            cause=self._cause_of(trouble),
            finding=_key_of(trouble, len(members), is_smallest=self._report.smallest is not None),
            summary=f"{names} {together} the request fail: {_sentence_of(trouble, self._name(trouble.position))}",
            confidence=confidence,
            evidence=tuple(evidence + left_out(self._report)),
            cure=self._cure(trouble, members),
            probes=self._probes(members) if confidence < 0.8 else (),
            status=trouble.status or None,
            plugins=self._plugins(members),
            route=self._order.route,
            service=self._order.service,
            request_id=_known_text(self._record.get("request_id")),
        )

    def _set_of(self, trouble: Trouble) -> list[int]:
        found = self._report.smallest if self._report.smallest is not None else [trouble.position]
        order = [member.position for member in self._report.members]
        return sorted(found, key=order.index)

    def _sentences_of_set(self, members: Sequence[Member]) -> list[str]:
        if self._report.smallest is None:
            return ["which other plugins it takes could not be found out"]
        names = [f"`{member.name}`" for member in members]
        left = dict(self._report.without)
        others = [member for member in self._report.members if member.mode == "run" and member not in members]
        if len(members) == 1:
            said = [f"the request fails with {names[0]} alone" if others else f"{names[0]} is the only plugin that was run"]
        else:
            smallest = "no smaller set does" if self._report.is_smallest else "none of them can be left out"
            said = [f"the request fails with {', '.join(names[:-1])} and {names[-1]} and no other; {smallest}"]
        for member in members:
            if left.get(member.position) is True:
                said.append(f"without `{member.name}` the request fails too, by others")
            elif left.get(member.position) is False and others:
                said.append(f"without `{member.name}` it does not")
        return said

    def _cause_of(self, trouble: Trouble) -> str:
        """The fault that the record names, if it is this; else the one that requests would meet."""
        if self._is_captured and self._is_reproduced():
            recorded = _known_text(self._record.get("fault"))
            if recorded is not None:
                return recorded
        if trouble.kind in ("answered", "status"):
            return "plugin_refused"
        if trouble.kind == "upstream":
            if trouble.what.startswith("bad_target"):
                return "dns_failed"
            return TOO_LONG if "too_long" in trouble.what else "plugin_failed"
        return "filter_failed" if trouble.phase in ("header_filter", "body_filter") else "plugin_failed"

    def _confidence(self, trouble: Trouble) -> float:
        is_reproduced = self._is_captured and self._is_reproduced()
        most = [0.95 if is_reproduced else 0.85]
        modes = {member.mode for member in self._concerned(trouble)}
        if modes & {"not_run", "unknown"}:
            most.append(0.85 if is_reproduced else 0.6)
        if "assumed" in modes and not is_reproduced:
            most.append(0.75)
        if self._report.smallest is None:
            most.append(0.7)
        if not is_reproduced:
            if self._is_captured:
                most.append(0.4)
            if trouble.phase in ("response", "header_filter", "body_filter"):
                most.append(0.7)
            if trouble.kind in ("blocked", "upstream"):
                most.append(0.6)
        if not self._report.is_steady:
            most.append(0.5)
        if self._is_captured and self._is_config_current is False:
            most.append(0.7)
        return min(most)

    def _concerned(self, trouble: Trouble) -> list[Member]:
        """The plugins that have a part in it: who runs after the one that failed has none."""
        concerned = [member for member in self._report.members if member.may_change]
        if trouble.kind == "upstream" or trouble.phase not in ("rewrite", "access"):
            return concerned
        before = [member for member in concerned if member.position == trouble.position]
        return concerned[: concerned.index(before[0]) + 1] if before else concerned

    def _cure(self, trouble: Trouble, members: Sequence[Member]) -> tuple[str, ...]:
        name = self._name(trouble.position)
        first = {
            "raised": f"mend `{name}` at {trouble.place or 'the phase named'}, or the configuration that leads it there",
            "blocked": f"mend `{name}`: a phase that waits must be `async`, one that computes must come to an end",
            "died": f"mend `{name}`: no phase may end the process",
            "upstream": f"change the configuration of `{name}`, so that it sends what the upstream can take",
        }.get(trouble.kind, f"change the configuration of `{name}`, or send what it asks for")
        calls = [self._call(member) for member in members]
        if len(calls) == 1:
            return (first, calls[0])
        return (first, "or leave one of them out, whichever can be done without:", *calls)

    def _call(self, member: Member) -> str:
        url = shlex.quote(f"{self._admin_url}/plugins/{member.id}")
        return f"curl -X PATCH {url} --data enabled=false"

    def _probes(self, members: Sequence[Member]) -> tuple[str, ...]:
        probes = [f"send the request again with `{member.name}` disabled" for member in members[:1]]
        if any(member.mode == "unknown" for member in self._report.members):
            probes.append("describe the whole request, with -H for each withheld header and --data for the body")
        return tuple(probes)

    # What was recorded.

    def _recorded_plugin(self) -> tuple[str, str] | None:
        """The plugin that the record says failed or answered 400 or more, and its id."""
        fault = _known_text(self._record.get("fault"))
        name = _known_text(self._record.get("plugin"))
        if fault not in FAILED | REFUSED or name is None:
            return None
        steps = self._failing_steps(name)
        return name, (_known_text(steps[0].get("id")) or "") if steps else ""

    def _failing_steps(self, name: str) -> list[Row]:
        """The phases in which a plugin failed or answered, as recorded."""
        steps = (step for step in entries(self._record, "plugins") if step.get("name") == name)
        return [step for step in steps if step.get("outcome") in ("answered", "failed")]

    def _is_reproduced(self) -> bool:
        """Whether the replay shows what was recorded."""
        trouble, fault = self._trouble, _known_text(self._record.get("fault"))
        if trouble is None:
            return False
        if trouble.kind == "upstream":
            if trouble.what.startswith("bad_target"):
                hosts = [host for entry in entries(self._record, "attempts") if (host := _known_text(entry.get("host")))]
                return fault in NO_CONNECTION and (not hosts or any(f"`{host}`" in trouble.text for host in hosts))
            return "too_long" in trouble.what and fault == TOO_LONG
        recorded = self._recorded_plugin()
        if recorded is None:
            return False
        name, plugin_id = recorded
        member = self._by_position.get(trouble.position)
        if member is None or member.name != name or (plugin_id and member.id != plugin_id):
            return False
        if trouble.kind == "raised":
            return fault in FAILED
        return trouble.kind == "answered" and fault in REFUSED and _status_of(self._record) == trouble.status

    def _sentences_of_record(self) -> list[str]:
        if not self._is_captured:
            return []
        said = ["the record says the same" if self._is_reproduced() else f"the record says otherwise: {self._recorded()}"]
        if self._is_config_current is False:
            said.append("the configuration has changed since")
        return said

    def _recorded(self) -> str:
        status, fault = _status_of(self._record), _known_text(self._record.get("fault"))
        plugin = self._recorded_plugin()
        by = f" by `{plugin[0]}`" if plugin is not None else ""
        return f"status {status or 'unknown'}, {fault or 'no fault'}{by}"

    def _of_record(self, name: str, plugin_id: str) -> Finding:
        """What was recorded of a plugin and not seen again."""
        phase = next((_known_text(step.get("phase")) for step in self._failing_steps(name)), None) or "access"
        member = next((one for one in self._report.members if one.name == name and plugin_id in ("", one.id)), None)
        was_run = member is not None and member.mode == "run"
        if member is None:
            reason = "it is not among the plugins that apply to the request now"
        elif member.mode == "assumed":
            reason = "it says who the client is, and no secret is kept that it could be run with"
        else:
            reason = member.reason
        evidence = [f"the record says: {self._recorded()}"]
        if was_run:
            evidence.append(f"run again, `{name}` let the request pass")
        else:
            evidence.append(f"`{name}` was not run again: {reason}")
        if self._is_config_current is False:
            evidence.append("the configuration has changed since")
        fault = str(self._record.get("fault"))
        did = "answered" if fault in REFUSED else "failed"
        # The record itself excludes every other hop; what it can't show is which other plugins it took.
        known = Member(-1, name, plugin_id, "not_run") if member is None else member
        return Finding(
            hop="plugin",
            phase=PHASES.get(phase, "access"),
            cause=fault,
            finding="not_reproduced" if was_run else "recorded_not_replayed",
            summary=f"`{name}` {did} as the record says; {'run again it does not' if was_run else 'it could not be run again'}",
            confidence=0.5 if was_run else 0.85,
            evidence=tuple(evidence + left_out(self._report)),
            cure=(
                f"see why `{name}` {did}: its line in error.log, its configuration",
                *([self._call(known)] if known.id else []),
            ),
            probes=("describe the whole request, with -H for each withheld header and --data for the body",),
            status=_status_of(self._record),
            plugins=self._plugins([member] if member is not None else []),
            route=self._order.route,
            service=self._order.service,
            request_id=_known_text(self._record.get("request_id")),
        )

    def _of_log(self, trouble: Trouble) -> Finding:
        name = self._name(trouble.position)
        member = self._by_position[trouble.position]
        return Finding(
            hop="plugin",
            phase="done",
            cause="plugin_failed",
            finding="log_phase_fails",
            summary=f"`{name}` fails in its log phase, when all is over; the client notices nothing",
            confidence=0.85,
            evidence=(_sentence_of(trouble, name),),
            cure=(f"mend `{name}` at {trouble.place or 'the phase named'}", self._call(member)),
            is_broken=False,
            subject=f"plugin {name}",
            plugins=self._plugins([member]),
            route=self._order.route,
            service=self._order.service,
        )

    def _name(self, position: int) -> str:
        member = self._by_position.get(position)
        return "?" if member is None else member.name

    def _plugins(self, blamed: Sequence[Member]) -> tuple[dict[str, Any], ...]:
        return tuple(
            {
                "name": member.name,
                "id": member.id,
                "replay": member.mode,
                "reason": member.reason or None,
                "is_needed_to_fail": member in blamed,
            }
            for member in self._report.members
        )


def _key_of(trouble: Trouble, count: int, *, is_smallest: bool) -> str:
    if not is_smallest:
        return "plugin_blocks" if trouble.kind == "blocked" else "failing_plugin"
    if trouble.kind == "blocked":
        return "plugin_blocks"
    if trouble.kind == "upstream":
        return "unsendable_request"
    return "smallest_failing_set" if count > 1 else "failing_plugin"


def _sentence_of(trouble: Trouble, name: str) -> str:
    phase = trouble.phase
    if trouble.kind == "raised":
        where = f" ({trouble.place})" if trouble.place else ""
        text = f": {trouble.text}" if trouble.text else ""
        return f"`{name}` raises {trouble.what} in {phase}{where}{text}"
    if trouble.kind == "answered":
        return f"`{name}` answers {trouble.what} in {phase}"
    if trouble.kind == "status":
        return f"`{name}` makes status {trouble.what} of a good answer in {phase}"
    if trouble.kind == "blocked":
        return f"`{name}` does not return from {phase}"
    if trouble.kind == "died":
        return f"`{name}` ends the process in {phase}"
    return f"after `{name}`, {trouble.text}"


def _known_text(value: Any) -> str | None:
    return escaped(value) if isinstance(value, str) and value else None


def _status_of(record: Row) -> int | None:
    status = record.get("status")
    return status if isinstance(status, int) and 100 <= status <= 599 else None
