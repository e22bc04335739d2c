# SPDX-License-Identifier: Apache-2.0
"""How is an order carried out? Runs in a process of its own (`python -m pylae.doctor.replay.child`), which may be killed.

Standard input holds the order; each line of standard output is a report that knows more than the one before. Where it
stands is written to the file whose number is the argument, so that whoever kills it knows which phase it was in.
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pylae.doctor.replay.guard import Guard, TookTooLong, waited_s
from pylae.doctor.replay.order import Applied, Member, Mode, Order, Report, Run, Stage, Trouble
from pylae.doctor.replay.search import Exhausted, Search
from pylae.doctor.replay.walk import Assumed, Place, ReplayWalker, Unusable
from pylae.doctor.replay.watching import LonelyHost, Stopped, Watch, is_shown
from pylae.sdk.loader import PluginNotLoaded, load
from pylae.sdk.plugin import PHASES, Plugin
from pylae.sdk.references import MARK, secrets_in
from pylae.sdk.walking import Link, in_order

MOST_MEMORY_BYTES: Final = 2 << 30
LATER_LIMIT_S: Final = 0.25
"""What a phase may take once one was seen to block."""
WIDTH: Final = 32
"""Bytes in which it is told where it stands."""


class Replay:
    """One order, being carried out."""

    def __init__(self, order: Order, out: int, standing: int) -> None:
        self.report = Report()
        self._order = order
        self._out = out
        self._standing = standing
        self._watch = Watch(value for name, value in order.asked.headers if value is not None and not is_shown(name))
        self._guard = Guard(self._watch, order.hook_limit_s)
        self._host = LonelyHost(self._watch, order.now_ms)
        self._runner = asyncio.Runner()
        self._places: list[Place] = []
        self._started_s = time.monotonic()

    def __repr__(self) -> str:
        return f"<replay {self.report.stage} runs={self.report.run_count}>"

    def carry_out(self) -> None:
        """Does all of it, and tells after each part."""
        sys.addaudithook(self._watch.audit)
        with self._guard:
            self._gather()
            self._tell("loading")
            trouble = self._run_whole()
            self._tell("whole")
            if trouble is not None:
                self._find_smallest(trouble)
            self._tell("done")

    def _tell(self, stage: Stage) -> None:
        self.report.stage = stage
        os.write(self._out, msgspec.json.encode(self.report) + b"\n")

    def _began(self, position: int, phase: str) -> None:
        os.pwrite(self._standing, f"{position} {phase}".ljust(WIDTH).encode(), 0)
        self._guard.begin()

    # Who takes part.

    def _gather(self) -> None:
        wanted = range(len(self._order.plugins)) if self._order.only is None else self._order.only
        applied = {position: self._order.plugins[position] for position in wanted}
        classes = self._load({one.name: position for position, one in applied.items()})
        places = []
        for position, one in applied.items():
            plugin = classes[one.name]
            mode, reason = self._mode_of(one, plugin)
            self.report.members.append(Member(position, one.name, one.id, mode, reason, _may_change(plugin)))
            if isinstance(plugin, str) or mode in ("not_run", "unknown"):
                continue
            try:
                places.append(self._place(position, one, plugin, is_assumed=mode == "assumed"))
            except Stopped:
                self._excuse(self.report.members[-1])
        by_link = {place.link: place for place in places}
        self._places = [by_link[link] for link in in_order(by_link)]
        self.report.members.sort(key=lambda member: member.name, reverse=True)
        self.report.members.sort(key=lambda member: _priority_of(classes[member.name]), reverse=True)

    def _load(self, names: Mapping[str, int]) -> dict[str, type[Plugin] | str]:
        """Each plugin, or why it can't be had."""
        classes: dict[str, type[Plugin] | str] = {}
        for name in sorted(names):
            self._began(names[name], "load")
            try:
                classes.update(load([name], self._order.plugin_path))
            except PluginNotLoaded as error:
                classes[name] = str(error)
            except BaseException as error:  # a module may raise anything, and whatever it is, it is told
                classes[name] = f"it does not import: {type(error).__name__}"
        return classes

    def _mode_of(self, applied: Applied, plugin: type[Plugin] | str) -> tuple[Mode, str]:
        if isinstance(plugin, str):
            return "not_run", plugin
        if plugin.is_native:
            return "not_run", "the data plane does its work"
        if not plugin.done:
            # It is known what it does: nothing, or to refuse.
            return "run", ""
        if plugin.authenticates:
            return "assumed", ""
        if not plugin.is_pure:
            return "not_run", "it is not marked pure"
        if plugin.start is not Plugin.start:
            return "not_run", "it is marked pure, yet has something to start"
        if MARK in msgspec.msgpack.encode(applied.config):
            return "unknown", "its configuration names a secret in a vault"
        return "run", ""

    def _place(self, position: int, applied: Applied, plugin: type[Plugin], *, is_assumed: bool) -> Place:
        if is_assumed:
            assumed = Assumed(plugin, self._host, self._order, self._watch)
            return Place(Link(assumed, None, applied.id), position, is_fixed=True, has_secrets=False)
        has_secrets = any(secrets_in(plugin.Config, applied.config))
        self._began(position, "configuration")
        self._watch.begin(position, "configuration")
        try:
            made: Plugin = plugin(self._host)
            config: Any = plugin.build_config(
                msgspec.msgpack.encode(applied.config), applied.id, applied.route_id, applied.service_id, applied.consumer_id
            )
        except Stopped:
            raise
        except BaseException as error:  # as the gateway does: whatever it is, the plugin fails at its first phase
            made, config = Unusable(plugin, self._host, error), None
        finally:
            self._watch.end()
        return Place(Link(made, config, applied.id), position, is_fixed=False, has_secrets=has_secrets)

    # The walks.

    @property
    def _runnable(self) -> list[int]:
        return [place.position for place in self._places if not place.is_fixed]

    def _run(self, members: Iterable[int]) -> Run:
        """Walks through some of the plugins and all that are taken as done.

        Raises:
            Stopped: one of them could not be run.
        """
        wanted = frozenset(members)
        self.report.run_count += 1
        self._watch.missed.clear()
        self._watch.reached.clear()
        self._watch.has_seen_secrets.clear()
        places = [place for place in self._places if place.is_fixed or place.position in wanted]
        walker = ReplayWalker(places, self._order, self._watch, self._began)
        try:
            return self._runner.run(walker.run())
        except TookTooLong as end:
            self._watch.end()
            # The one that was interrupted is of no further use.
            self._runner = asyncio.Runner()
            self._guard.limit_s = min(self._guard.limit_s, LATER_LIMIT_S)
            return Run(Trouble("blocked", end.position, end.phase, "no end"))

    def _run_whole(self) -> Trouble | None:
        """Runs the whole chain, less whoever turns out not to be able to."""
        while True:
            try:
                self.report.whole = self._run(self._runnable)
            except Stopped:
                stopped = {**self._watch.missed, **self._watch.reached}
                if not stopped:
                    raise
                self._leave_out(next(iter(stopped)))
                continue
            return self.report.whole.trouble

    def _leave_out(self, position: int) -> None:
        self._excuse(next(member for member in self.report.members if member.position == position))
        self._places = [place for place in self._places if place.position != position]

    def _excuse(self, member: Member) -> None:
        """Says why a plugin that was stopped is left out."""
        reached = self._watch.reached.get(member.position)
        missed = self._watch.missed.get(member.position)
        if reached is not None:
            member.mode, member.reason = "not_run", f"it is marked pure, yet reached for {reached}"
        elif missed is not None:
            member.mode, member.reason = "unknown", f"it asks for {missed}, which no record keeps"
        else:
            member.mode, member.reason = "not_run", "what it makes of its configuration takes too long"

    def _find_smallest(self, trouble: Trouble) -> None:
        def fails(members: frozenset[int]) -> bool | None:
            try:
                found = self._run(members).trouble
            except Stopped:
                return None
            return found is not None and found.key == trouble.key

        def may_go_on() -> bool:
            return time.monotonic() - self._started_s - waited_s() < self._order.search_limit_s

        members = self._runnable
        if trouble.position not in members:
            return
        search = Search(fails, may_go_on)
        if trouble.kind != "blocked":
            self.report.is_steady = fails(frozenset(members)) is True
        self.report.smallest, self.report.is_smallest = search.smallest(
            members, trouble.position, is_needed=trouble.kind != "upstream"
        )
        self._tell("smallest")
        # Each run that blocks takes its time: then only those without which it should not.
        asked = self.report.smallest if trouble.kind == "blocked" else members
        for position in asked:
            try:
                left = search.ask(frozenset(members) - {position}) if len(members) > 1 else False
            except Exhausted:
                left = None
            self.report.without.append((position, left))


def _may_change(plugin: type[Plugin] | str) -> bool:
    """Whether it has a phase before all is over."""
    return isinstance(plugin, str) or any(hasattr(plugin, phase) for phase in PHASES if phase not in ("certificate", "log"))


def _priority_of(plugin: type[Plugin] | str) -> float:
    """Its place in the order; what can't be had comes last."""
    return -math.inf if isinstance(plugin, str) else plugin.priority


def main() -> None:
    """Carries out the order on standard input."""
    # Whatever a plugin prints goes nowhere.
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    status = 1
    try:
        Replay(order, out, int(sys.argv[1])).carry_out()
        status = 0
    finally:
        # At once: what a plugin left running is not waited for.
        os._exit(status)


if __name__ == "__main__":
    main()
