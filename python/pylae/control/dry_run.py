# SPDX-License-Identifier: Apache-2.0
"""What would become of requests of which there are records, if the configuration were another one?

Nothing is called and nothing is guessed. Where another configuration leads elsewhere, or a plugin that is new or changed
takes part, the status is not known; where a value that the record withholds decides which Route it is, nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pylae._core import Configuration
from pylae.control.described import Undescribed, of_record
from pylae.control.expansion import VAULTS
from pylae.database.changes import SNAPSHOT_TABLES

UNKNOWN: Final = "unknown"
"""In the place of a status."""
TIMES: Final = ("created_at", "updated_at")
OF_NO_EFFECT: Final = ("name", "tags", *TIMES)
"""Fields of a row whose change no request notices."""
SEEN_OTHERWISE: Final[Mapping[str, Sequence[str]]] = {
    "routes": (
        *("methods", "hosts", "paths", "headers", "snis", "expression", "priority", "regex_priority", "protocols"),
        *("https_redirect_status_code", "strip_path", "path_handling", "service", "sources", "destinations"),
    ),
    "services": ("protocol", "host", "port", "path"),
    "upstreams": (),
}
"""Fields whose effect on a request is seen in what the router says of it."""
EARLY_ROOMS: Final = ("listener", "tls", "http")
NEAREST: Final = 5

Row = dict[str, Any]
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Differences:
    """Rows that are not the same before and after.

    Attributes:
        fields: by table and id, the fields that differ; none of a row that came or went.
        elsewhere: other tables with rows that differ: plugins look at them, as at Consumers and credentials.
    """

    fields: Mapping[str, Mapping[str, frozenset[str] | None]]
    elsewhere: frozenset[str] = frozenset()

    @classmethod
    def between(
        cls, before: Mapping[str, Mapping[str, bytes]], after: Mapping[str, Mapping[str, bytes]], elsewhere: frozenset[str]
    ) -> Differences:
        """How the encoded rows by table and id of two configurations differ."""
        return cls({table: differing(before[table], after[table]) for table in SNAPSHOT_TABLES}, elsewhere)

    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.elsewhere and not any(self.fields.values())

    def of(self, table: str, id_: str | None) -> frozenset[str]:
        """The fields of a row that differ, and that a request may notice."""
        found = self.fields[table].get(id_ or "")
        return frozenset() if found is None else found


def differing(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, frozenset[str] | None]:
    """The fields that differ by the id of encoded rows, times aside; none of a row that came or went."""
    found: dict[str, frozenset[str] | None] = dict.fromkeys(before.keys() ^ after.keys())
    for id_ in before.keys() & after.keys():
        if before[id_] != after[id_]:
            old, new = _decode(before[id_]), _decode(after[id_])
            fields = frozenset(name for name in old.keys() | new.keys() if name not in TIMES and old.get(name) != new.get(name))
            if fields:
                found[id_] = fields
    return found


@dataclass(slots=True)
class Outcome:
    """What is found of all records."""

    considered: int = 0
    changed: list[Row] = field(default_factory=list)
    unchanged: int = 0
    unknown: list[Row] = field(default_factory=list)

    def shown(self) -> Row:
        """As JSON."""
        return {
            "considered": self.considered,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "unknown": self.unknown,
        }


def compare(
    before: Configuration,
    after: Configuration,
    differences: Differences,
    records: Iterable[tuple[Mapping[str, Any], bool]],
    pure: frozenset[str] = frozenset(),
) -> Outcome:
    """Looks at each record under either configuration.

    Args:
        before: the one of now.
        after: the other one.
        differences: between their rows.
        records: of requests, decoded, each with whether it was served with the configuration of now.
        pure: names of plugins that look at nothing but a request and their configuration.
    """
    outcome = Outcome()
    for record, is_current in records:
        outcome.considered += 1
        if differences.is_empty() or _never_reached_the_router(record):
            outcome.unchanged += 1
            continue
        try:
            pair = _Pair.of(before, after, differences, record, is_current=is_current)
        except Undetermined as error:
            outcome.unknown.append({"request_id": record.get("request_id"), "reason": str(error)})
            continue
        why = pair.why(differences)
        if why:
            outcome.changed.append(pair.shown(differences, why))
            continue
        reason = pair.rests_on(differences, pure)
        if reason is None:
            outcome.unchanged += 1
        else:
            outcome.unknown.append({"request_id": record.get("request_id"), "reason": reason})
    return outcome


class Undetermined(Exception):
    """It cannot be told what either configuration does with a request."""


def _never_reached_the_router(record: Mapping[str, Any]) -> bool:
    return record.get("route") is None and record.get("room") in EARLY_ROOMS and record.get("fault") != "client_gone"


class _Pair:
    """What either configuration does with one request."""

    def __init__(self, record: Mapping[str, Any], asked: Row, before: Row, after: Row, configuration: Configuration) -> None:
        self._record = record
        self._asked = asked
        self.before = before
        self.after = after
        self._configuration = configuration

    @classmethod
    def of(
        cls, before: Configuration, after: Configuration, differences: Differences, record: Mapping[str, Any], *, is_current: bool
    ) -> _Pair:
        """Asks both.

        Raises:
            Undetermined: the record says too little.
        """
        try:
            asked = of_record(record)
            found, then = before.explain(asked, nearest=0), after.explain(asked, nearest=0)
        except (Undescribed, ValueError) as error:
            raise Undetermined(str(error)) from error
        open_ = [*found["unknown"], *(reason for reason in then["unknown"] if reason not in found["unknown"])]
        if open_ and not (is_current and _is_settled(record, found, then, differences)):
            raise Undetermined("; ".join(open_))
        if (
            asked["scheme"] == "http"
            and "https_required" in (found["fault"], then["fault"])
            and _may_come_over_tls(record, asked)
        ):
            raise Undetermined("the record does not say whether a trusted proxy took the request over https")
        return cls(record, asked, found, then, after)

    # === what differs ===

    def why(self, differences: Differences) -> list[str]:
        """What of it changes, in sentences; none: nothing."""
        before, after = self.before, self.after
        if _id(before["route"]) != _id(after["route"]):
            return self._why_another_route()
        why = [
            *self._of_service(),
            *self._of_upstream(differences),
            *self._of_plugins(differences),
            *_of_fields("Route", "routes", before["route"], differences),
            *_of_fields("Service", "services", before["service"], differences),
        ]
        if before["fault"] != after["fault"] or before["status"] != after["status"]:
            if after["fault"] is not None:
                why.append(f"the gateway answers {after['status']} by itself: {after['fault']}")
            else:
                why.append(f"the gateway no longer answers {before['status']} by itself: {before['fault']}")
        return why

    def _why_another_route(self) -> list[str]:
        before, after = self.before["route"], self.after["route"]
        then = self._configuration.explain(self._asked, nearest=NEAREST)
        if after is None:
            why = [f"no Route matches any more, instead of {_shown(before)}"]
        elif before is None:
            why = [f"the Route {_shown(after)} matches, where none did"]
        else:
            why = [f"the Route is {_shown(after)} instead of {_shown(before)}"]
        if after is not None:
            why += [f"{_shown(after)} matches by {held['condition']} {held['value']}".rstrip() for held in then["route"]["why"]]
        if before is not None:
            near = next((near for near in then["nearest"] if near["id"] == before["id"]), None)
            if near is not None:
                why += [
                    f"{_shown(before)} demands {failed['condition']} {', '.join(failed['wanted'])}" for failed in near["failed"]
                ]
            elif any(other["id"] == before["id"] for other in then["outranked"]):
                why.append(f"{_shown(before)} matches as well, and is outranked")
        return why

    def _of_service(self) -> list[str]:
        before, after = self.before["service"], self.after["service"]
        if before is None or after is None:
            return [] if before is after else [f"the Service is {_shown(after)} instead of {_shown(before)}"]
        if before["id"] != after["id"]:
            return [f"the Service is {_shown(after)} instead of {_shown(before)}"]
        why = [
            f"the Service's {name} is {after[name]} instead of {before[name]}"
            for name in ("protocol", "host", "port", "path")
            if before[name] != after[name]
        ]
        if not why and self.before["upstream_path"] != self.after["upstream_path"]:
            why = [f"the path upstream is {self.after['upstream_path']} instead of {self.before['upstream_path']}"]
        return why

    def _of_upstream(self, differences: Differences) -> list[str]:
        before, after = self.before["upstream"], self.after["upstream"]
        if _id(before) != _id(after):
            if before is None:
                return [f"the host is now that of the Upstream {_shown(after)}"]
            if after is None:
                return [f"{_shown(before)} is no Upstream any more"]
            return [f"the Upstream is {_shown(after)} instead of {_shown(before)}"]
        if before is None:
            return []
        gone, come = _targets(before) - _targets(after), _targets(after) - _targets(before)
        why = [f"the Target {host}:{port} with a weight of {weight} goes" for host, port, weight in sorted(gone)]
        why += [f"the Target {host}:{port} with a weight of {weight} comes" for host, port, weight in sorted(come)]
        return [*why, *_of_fields("Upstream", "upstreams", before, differences)]

    def _of_plugins(self, differences: Differences) -> list[str]:
        before = {plugin["id"]: plugin for plugin in self.before["plugins"]}
        after = {plugin["id"]: plugin for plugin in self.after["plugins"]}
        why = [f"the plugin `{before[id_]['name']}` ({id_}) no longer applies" for id_ in before if id_ not in after]
        why += [f"the plugin `{after[id_]['name']}` ({id_}) applies now" for id_ in after if id_ not in before]
        why += [
            f"the plugin `{after[id_]['name']}` ({id_}) has another configuration"
            for id_ in after
            if id_ in before and differences.of("plugins", id_) & {"config"}
        ]
        return why

    # === what the client would be answered ===

    def rests_on(self, differences: Differences, pure: frozenset[str]) -> str | None:
        """What of a request that meets the same as before may differ all the same; None: nothing."""
        has_vaults = VAULTS in differences.elsewhere
        asking = [plugin["name"] for plugin in self.after["plugins"] if has_vaults or plugin["name"] not in pure]
        if not differences.elsewhere or not asking:
            return None
        return f"rows of {', '.join(sorted(differences.elsewhere))} change, which the plugin `{asking[0]}` may look at"

    def status(self, differences: Differences) -> int | str | None:
        """The status after the change, if anything but the upstream, a plugin or the client decides it."""
        before, after, recorded = self.before, self.after, self._record.get("status")
        if self._record.get("fault") == "client_gone":
            return UNKNOWN
        if after["fault"] in ("no_route", "https_required"):
            # Global plugins may answer before the Route is known.
            return after["status"] if not self._answered_in("rewrite") else UNKNOWN
        if before["fault"] in ("no_route", "https_required"):
            return UNKNOWN
        if self._is_stopped_alike(differences):
            return recorded if isinstance(recorded, int) else UNKNOWN
        if after["fault"] is not None and not after["plugins"]:
            return int(after["status"])
        return UNKNOWN

    def _status_before(self) -> int | str | None:
        """What it was answered; of a record of another configuration, only if it met the same."""
        if self.before["fault"] in ("no_route", "https_required"):
            return int(self.before["status"])
        recorded = self._record.get("route")
        is_same = isinstance(recorded, Mapping) and recorded.get("id") == _id(self.before["route"])
        return self._record.get("status") if is_same else UNKNOWN

    def _answered_in(self, phase: str) -> bool:
        return any(step.get("outcome") == "answered" and step.get("phase") == phase for step in self._steps())

    def _steps(self) -> list[Mapping[str, Any]]:
        steps = self._record.get("plugins")
        return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []

    def _is_stopped_alike(self, differences: Differences) -> bool:
        """Whether a plugin answered before anything that is different now."""
        step = next((step for step in self._steps() if step.get("outcome") == "answered"), None)
        if step is None or step.get("phase") not in ("rewrite", "access") or differences.elsewhere:
            return False
        if _id(self.before["route"]) != _id(self.after["route"]):
            return False
        before = _up_to(self.before["plugins"], step.get("id"))
        after = _up_to(self.after["plugins"], step.get("id"))
        return before is not None and before == after and not any(differences.of("plugins", id_) for id_ in before)

    def shown(self, differences: Differences, why: list[str]) -> Row:
        """As JSON."""
        return {
            "request_id": self._record.get("request_id"),
            "before": {**_met(self.before), "status": self._status_before()},
            "after": {**_met(self.after), "status": self.status(differences)},
            "why": why,
        }


def _met(found: Row) -> Row:
    return {
        "route": _named(found["route"]),
        "service": found["service"],
        "upstream": _named(found["upstream"]),
        "upstream_path": found["upstream_path"],
        "plugins": [_named(plugin) for plugin in found["plugins"]],
    }


def _named(row: Row | None) -> Row | None:
    return None if row is None else {"id": row["id"], "name": row["name"]}


def _id(row: Row | None) -> str | None:
    return None if row is None else str(row["id"])


def _shown(row: Row | None) -> str:
    return "none" if row is None else f"`{row['name'] or row['id']}`"


def _targets(upstream: Row) -> set[tuple[str, int, int]]:
    return {(target["host"], target["port"], target["weight"]) for target in upstream["targets"]}


def _up_to(plugins: Sequence[Row], id_: Any) -> list[str] | None:
    """The ids of plugins up to one of them."""
    ids = [plugin["id"] for plugin in plugins]
    return ids[: ids.index(id_) + 1] if id_ in ids else None


def _of_fields(what: str, table: str, row: Row | None, differences: Differences) -> list[str]:
    """Fields of a row that change what is done with a request, and that the router does not speak of."""
    changed = differences.of(table, _id(row)) - {*OF_NO_EFFECT, *SEEN_OTHERWISE[table]}
    return [f"the {what}'s {name} changes" for name in sorted(changed)]


def _is_settled(record: Mapping[str, Any], before: Row, after: Row, differences: Differences) -> bool:
    """Whether what the record withholds was decided when it was served, and is decided alike: by the same conditions."""
    route = record.get("route")
    id_ = route.get("id") if isinstance(route, Mapping) else None
    is_same = _id(before["route"]) == _id(after["route"]) == id_ and set(after["open"]) <= set(before["open"])
    return is_same and id_ is not None and differences.fields["routes"].keys().isdisjoint({*after["open"], id_})


def _may_come_over_tls(record: Mapping[str, Any], asked: Row) -> bool:
    client = record.get("client")
    if isinstance(client, Mapping) and client.get("is_trusted") is False:
        return False
    if not asked["is_trusted"]:
        return True
    values = [value for name, value in asked["headers"] if name.lower() == "x-forwarded-proto"]
    return asked["has_more_headers"] or None in values
