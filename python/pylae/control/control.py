# SPDX-License-Identifier: Apache-2.0
"""What keeps workers fresh from the moment this process starts until it ends?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pylae.control.calls import Calls
from pylae.control.configuration import Configurations
from pylae.control.dns import DNS_CHANNEL, Dns
from pylae.control.expansion import VAULTS, Expansion
from pylae.control.expiry import CertificateWatch, StaleNames
from pylae.control.explain import EXPLAIN_CHANNEL, Explain, Kept, Limits
from pylae.control.explained_routes import ExplainedRoutes
from pylae.control.failure_lines import FailureLines
from pylae.control.feed import MAX_REMEMBERED_CHANGES, Feed
from pylae.control.health import Health, HealthTable
from pylae.control.line import LineServer, Log
from pylae.control.log import ErrorLog
from pylae.control.streams import Streams, Taker
from pylae.control.timeout_order import TimeoutOrder
from pylae.control.warnings import WARNINGS_CHANNEL, Warnings
from pylae.database.changes import SNAPSHOT_TABLES, Commit, Replacement
from pylae.database.dao import Catalogue, ReadDao
from pylae.database.database import Database
from pylae.database.protocols import check_plugin_protocols
from pylae.database.strategies import Reader, Strategy
from pylae.database.strategies.off import OffReader, OffStrategy
from pylae.entities import enable_plugins, registry, use_router_flavor
from pylae.entities.vaults import Vault
from pylae.errors import SettingsError, StrategyUnavailable
from pylae.explain import facts
from pylae.explain.verdict import Verdict, verdict_of
from pylae.schema import Entity
from pylae.sdk.loader import load_plugins
from pylae.sdk.plugin import Plugin
from pylae.sdk.undone import Undone
from pylae.settings import Settings
from pylae.vaults import Vaults, enabled_kinds

OPEN_AGAIN_AFTER_S: Final = 1.0
MAX_TOLD_ROWS: Final = 5
SWEEP_EVERY_S: Final = 30.0


def catalogue_of(entities: Mapping[str, type[Entity]], plugins: Mapping[str, type[Plugin]]) -> Catalogue:
    """Every entity, with what is checked before a plugin is stored."""

    def check_plugin(reader: Reader, row: dict[str, object]) -> None:
        check_plugin_protocols(reader, row)
        config = row["config"]
        assert isinstance(config, dict)
        plugins[str(row["name"])].check_config(config)

    return Catalogue(entities, {"plugins": check_plugin})


def prepared(settings: Settings) -> tuple[dict[str, type[Plugin]], Catalogue]:
    """The plugins that the settings ask for, and every entity as the settings have them.

    Raises:
        PluginNotLoaded: one of the plugins cannot be had.
    """
    plugins = load_plugins(settings)
    enable_plugins(plugins, has_database=settings.database != "off")
    use_router_flavor(settings.router_flavor)
    Vault.enable(enabled_kinds(settings.vaults))
    return plugins, catalogue_of(registry(), plugins)


class Control:
    """The database, the line to the workers, and what lies between.

    Args:
        strategy: which database.
        catalogue: what it holds.
        plugins: those this gateway has, by name.
        socket_path: where workers connect.
        log: takes lines for the error log.
        vaults: where the secrets are that configurations name.
        health_table: where workers keep how Targets do.
        explain_limits: how many records of single requests are kept.
        admin_url: where the Admin API is called, for the calls that are told as a cure.
        router: the settings `router_flavor` and `router_ranking`.
    """

    def __init__(
        self,
        strategy: Strategy,
        catalogue: Catalogue,
        plugins: Mapping[str, type[Plugin]],
        socket_path: Path,
        log: Log,
        vaults: Vaults | None = None,
        health_table: HealthTable | None = None,
        explain_limits: Limits | None = None,
        admin_url: str = "http://localhost:8001",
        router: tuple[str, str] = ("traditional_compatible", "kong"),
    ) -> None:
        self.catalogue = catalogue
        self.database = Database(strategy, catalogue, self._committed)
        self.dns = Dns(lambda: self.line.workers(), log)
        self.admin_url = admin_url
        self.explain = Explain(log, explain_limits)
        is_shown = log.is_shown if isinstance(log, ErrorLog) else _shows_all
        self._failure_lines = FailureLines(log, is_shown, self.verdict)
        self.explain.listeners.append(self._failure_lines.take)
        self.warnings = Warnings(log, admin_url)
        self._certificates = CertificateWatch(self.database, self.warnings, log)
        self.dns.listeners.append(StaleNames(self.dns, self.warnings).heard)
        self.explain.listeners.append(TimeoutOrder(self.warnings).take)
        takers: dict[str, Taker] = {
            DNS_CHANNEL: self.dns,
            EXPLAIN_CHANNEL: self.explain,
            WARNINGS_CHANNEL: self.warnings,
        }
        self.streams = Streams(plugins, self.database, log, vaults or Vaults(), takers)
        self.line = LineServer(socket_path, Calls(self.database), self.streams, log)
        self.health = Health(health_table)
        self.configurations = Configurations(lambda: self.feed, plugins, *router)
        self.explained_routes = ExplainedRoutes(self.configurations)
        self._plugins = plugins
        self._log = log
        # Commits made before the feed was there.
        self._early: list[Commit | Replacement] = []
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<control {self.line!r} {self.database!r}>"

    @property
    def feed(self) -> Feed | None:
        """What workers are sent; None while the database cannot be reached."""
        return self.line.feed

    def verdict(self, kept: Kept) -> Verdict:
        """Why a request failed."""
        return verdict_of(facts.read(kept.record()), admin_url=self.admin_url)

    async def start(self) -> None:
        """Opens the database, then lets workers in; without a database it says so to them and goes on trying."""
        is_open = await self._open()
        try:
            await self.line.start()
            await self.streams.start()
        except BaseException:
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        if not is_open:
            self._tasks.append(loop.create_task(self._open_later()))
        self._tasks.append(loop.create_task(self._sweep()))

    async def _open(self) -> bool:
        try:
            await self.database.open()
            feed = await self.database.read(self._load)
        except StrategyUnavailable as error:
            if self.line.unavailable_reason != str(error):
                self._log("crit", f"the database cannot be reached: {error}")
            self.line.unavailable_reason = str(error)
            return False
        # What was committed while the rows were being read.
        for commit in self._early:
            if commit.sequence > feed.sequence:
                feed.apply(commit)
        self._early.clear()
        configured = sorted(feed.plugin_names())
        _refuse_unloaded(configured, self._plugins)
        self._warn_of_undone(dict.fromkeys(configured, ""))
        self._warn_of_withheld(feed.withheld_routes())
        self._warn_of_trusting(feed.trusting_services())
        self.line.serve(feed)
        self._certificates.start()
        return True

    @property
    def off(self) -> OffStrategy | None:
        """Where the configuration is kept when there is no database; None with one."""
        strategy = self.database.strategy
        return strategy if isinstance(strategy, OffStrategy) else None

    def _load(self, dao: ReadDao) -> Feed:
        feed = self._feed_of(dao)
        feed.expansion = Expansion(self._plugins, dao.each(VAULTS) if VAULTS in self.catalogue.tables else ())
        return feed

    def _feed_of(self, dao: ReadDao) -> Feed:
        sequence = dao.sequence()
        if isinstance(dao.reader, OffReader):
            rows = {table: held.encoded for table, held in dao.reader.holding.items()}
            return Feed.of_encoded(self.database.strategy.database_id, sequence, rows)
        changes = dao.changes_after(sequence - MAX_REMEMBERED_CHANGES)
        each = {table: dao.each(table) for table in SNAPSHOT_TABLES}
        return Feed(self.database.strategy.database_id, sequence, each, changes)

    async def _open_later(self) -> None:
        while self.feed is None:
            await asyncio.sleep(OPEN_AGAIN_AFTER_S)
            try:
                is_open = await self._open()
            except SettingsError as error:
                # Nothing is served of it: workers stay with what they have.
                self.line.unavailable_reason = str(error)
                self._log("crit", str(error))
                return
            if is_open:
                self._log("notice", "the database can be reached now")

    def _committed(self, commit: Commit | Replacement) -> None:
        # Workers first: nothing that is not for them may keep a change from them.
        feed = self.feed
        if feed is None:
            self._early.append(commit)
        else:
            feed.apply(commit)
            self.line.push()
            self._warn_of_undone(_configured(commit))
            self._warn_of_withheld(feed.withheld_routes(_written(commit, "routes")))
            self._warn_of_trusting(feed.trusting_services(_written(commit, "services")))
        self.health.committed(commit)
        self._certificates.committed(commit)

    def _warn_of_undone(self, configured: Mapping[str, str]) -> None:
        """Says of plugins that are configured what that cannot bring about.

        Args:
            configured: their names, each with words that say which row is meant.
        """
        for name, which in configured.items():
            plugin = self._plugins.get(name)
            if plugin is not None and issubclass(plugin, Undone):
                self._log("warn", f"{plugin.warning()}{which}")

    def _warn_of_withheld(self, ids: Sequence[str]) -> None:
        """Says of Routes that are kept, and that no request reaches."""
        if ids:
            self._log("warn", f"no request reaches the Routes {_listed(ids)}: they have nothing to match by")

    def _warn_of_trusting(self, ids: Sequence[str]) -> None:
        """Says of Services that what they name for TLS is kept, and not used."""
        if ids:
            what = "client_certificate and ca_certificates are kept and have no effect in this version"
            self._log("warn", f"the Services {_listed(ids)}: {what}; hint: lua_ssl_trusted_certificate")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self.explain.forget_old()
            self._certificates.look()
            if self.feed is None:
                continue
            try:
                count = await self.database.sweep()
            except StrategyUnavailable as error:
                self._log("error", f"expired rows could not be removed: {error}")
            else:
                if count:
                    self._log("info", f"{count} expired rows were removed")

    async def stop(self) -> None:
        """Ends the lines, delivers what was streamed, closes the database."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._certificates.stop()
        await self.line.stop()
        await self.streams.stop()
        self.explain.look()
        self._failure_lines.tell_all()
        await self.database.close()


def _shows_all(level: str) -> bool:
    """Of a log that does not say what it leaves out."""
    del level
    return True


def _refuse_unloaded(configured: Sequence[str], loaded: Container[str]) -> None:
    """Does not serve a configuration whose guards are not there: a Route would stand open.

    Raises:
        SettingsError: a plugin is configured that this gateway did not load.
    """
    missing = [name for name in configured if name not in loaded]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise SettingsError(
            f"{names}: plugin is in use but not enabled; hint: add it to the setting `plugins`, or remove its rows"
        )


def _configured(commit: Commit | Replacement) -> dict[str, str]:
    """The plugins that a transaction configured, each with words that say which row is meant."""
    if isinstance(commit, Replacement):
        return dict.fromkeys(sorted(commit.plugins), "")
    rows = [change.row for change in commit.changes if change.table == "plugins" and change.row is not None]
    return {row["name"]: f" (plugin {row['id']})" for row in rows}


def _written(commit: Commit | Replacement, table: str) -> Iterable[str]:
    """The ids of the rows that a transaction wrote."""
    if isinstance(commit, Replacement) and commit.is_whole:
        return commit.rows.get(table, {})
    return [change.id for change in commit.changes if change.table == table]


def _listed(ids: Sequence[str]) -> str:
    """The first of these ids, and how many more there are."""
    shown = ", ".join(f"`{id_}`" for id_ in ids[:MAX_TOLD_ROWS])
    return f"{shown} and {len(ids) - MAX_TOLD_ROWS} more" if len(ids) > MAX_TOLD_ROWS else shown
