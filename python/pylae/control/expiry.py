# SPDX-License-Identifier: Apache-2.0
"""Which of the Certificates that we have end soon, and which names are served out of date?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pylae.control.dns import Dns, Heard
from pylae.control.line import Log
from pylae.control.warnings import Warnings
from pylae.database.changes import Commit, Replacement, Row
from pylae.database.dao import ReadDao
from pylae.database.database import Database
from pylae.errors import StrategyUnavailable
from pylae.vaults.reference import is_reference

CERTIFICATES: Final = "certificates"
SNIS: Final = "snis"
NEAR_S: Final = 30 * 86_400.0
READ_ALL_EVERY_S: Final = 3600.0
MAX_READ_ONE_BY_ONE: Final = 100
MAX_SHOWN_NAMES: Final = 5
STALE_FOR_LONG_S: Final = 60.0
"""An answer that is out of date for less may be asked for anew at this moment."""


@dataclass(frozen=True, slots=True)
class Ending:
    """When a certificate ends."""

    subject: str
    not_after_s: float
    snis: tuple[str, ...] = ()
    """For which it is shown, some of them; known when it ends soon."""


class CertificateWatch:
    """Warns of Certificates that end soon; rows are read and parsed in the database's threads.

    Args:
        database: has the rows.
        warnings: are given what ends soon.
        log: takes lines for the error log.
    """

    def __init__(self, database: Database, warnings: Warnings, log: Log) -> None:
        self._database = database
        self._warnings = warnings
        self._log = log
        self._endings: dict[str, Ending] = {}
        # Ids that have to be read; None: all.
        self._changed: set[str] | None = set()
        self._read_all_s = 0.0
        self._wakes = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<certificate watch {len(self._endings)}>"

    def start(self) -> None:
        """Begins to watch; the database is open."""
        if CERTIFICATES in self._database.catalogue.tables and self._task is None:
            self._changed = None
            self._wakes.set()
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Ends watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def committed(self, commit: Commit | Replacement) -> None:
        """Takes note of the rows that a transaction wrote."""
        if isinstance(commit, Replacement) and commit.is_whole:
            self._changed = None
        else:
            ids = {change.id for change in commit.changes if change.table == CERTIFICATES}
            named = (change.row for change in commit.changes if change.table == SNIS and change.row is not None)
            ids.update(row["certificate"]["id"] for row in named)
            if not ids:
                return
            if self._changed is not None:
                self._changed |= ids
        self._wakes.set()

    async def _watch(self) -> None:
        while True:
            await self._wakes.wait()
            self._wakes.clear()
            try:
                await self.read()
            except StrategyUnavailable as error:
                self._log("error", f"Certificates could not be read: {error}")

    async def read(self) -> None:
        """Reads what was written since, and warns of it."""
        changed, self._changed = self._changed, set()
        if changed is not None and len(changed) > MAX_READ_ONE_BY_ONE:
            changed = None
        now_s = self._warnings.now_s()
        try:
            found = await self._database.read(lambda dao: _endings(dao, changed, now_s))
        except StrategyUnavailable:
            # Read with the next ones.
            self._changed = None if changed is None or self._changed is None else self._changed | changed
            raise
        if changed is None:
            self._read_all_s = now_s
        gone = set(self._endings if changed is None else changed) - found.keys()
        for id_ in gone:
            self._endings.pop(id_, None)
            self._warnings.take_back("certificate", id_)
        self._endings.update(found)
        self._look(found)

    def look(self) -> None:
        """Warns of what ends soon by now; once an hour the rows are read anew."""
        self._look(self._endings)
        if self._warnings.now_s() - self._read_all_s >= READ_ALL_EVERY_S:
            self._changed = None
            self._wakes.set()

    def _look(self, ids: Iterable[str]) -> None:
        now_s = self._warnings.now_s()
        for id_ in ids:
            ending = self._endings[id_]
            if ending.not_after_s - now_s >= NEAR_S:
                self._warnings.take_back("certificate", id_)
                continue
            facts = {
                "id": id_,
                "subject": ending.subject,
                "not_after": datetime.fromtimestamp(ending.not_after_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "expires_in_s": round(ending.not_after_s - now_s),
                "snis": list(ending.snis),
            }
            self._warnings.give("certificate", id_, facts, is_state=True)


class StaleNames:
    """Warns of names whose addresses are out of date because no name server answers.

    Args:
        dns: what workers know of names.
        warnings: are given the names.
    """

    def __init__(self, dns: Dns, warnings: Warnings) -> None:
        self._dns = dns
        self._warnings = warnings

    def heard(self, name: str, heard: Heard) -> None:
        """Looks at a name of which a worker reported something."""
        now_s = self._dns.now_s()
        if not _is_stale(heard, now_s) and not self._warnings.is_active("dns_stale", name):
            return
        known = self._dns.known(name)
        # What one worker could not ask for anew, another may have.
        newest = heard if known is None else known.newest
        if not _is_stale(newest, now_s):
            self._warnings.take_back("dns_stale", name)
            return
        report = newest.report
        facts: dict[str, Any] = {
            "name": name,
            "stale_for_s": round(newest.stale_for_s(now_s), 3),
            "usable_for_s": None if report.stale_until_ms is None else round(report.stale_until_ms / 1000 - now_s, 3),
            "error": report.error,
        }
        self._warnings.give("dns_stale", name, facts, is_state=True)


def _is_stale(heard: Heard, now_s: float) -> bool:
    is_over = heard.state(now_s) in ("stale", "expired")
    return is_over and (heard.report.error is not None or heard.stale_for_s(now_s) > STALE_FOR_LONG_S)


def _endings(dao: ReadDao, ids: Iterable[str] | None, now_s: float) -> dict[str, Ending]:
    """When each of these Certificates ends, or each there is; one that cannot be read is left out."""
    rows = dao.each(CERTIFICATES) if ids is None else (row for id_ in ids if (row := dao.get(CERTIFICATES, id_)) is not None)
    found = {row["id"]: ending for row in rows if (ending := _ending(row)) is not None}
    for id_, ending in found.items():
        if ending.not_after_s - now_s < NEAR_S:
            row = dao.get(CERTIFICATES, id_)
            names = () if row is None else row.get("snis") or ()
            found[id_] = replace(ending, snis=tuple(names[:MAX_SHOWN_NAMES]))
    return found


def _ending(row: Row) -> Ending | None:
    """Of the certificate that ends first, where there are two."""
    # Not before the workers have their configuration.
    from cryptography import x509

    found = []
    for name in ("cert", "cert_alt"):
        text = row.get(name)
        if not isinstance(text, str) or is_reference(text):
            continue
        try:
            certificate = x509.load_pem_x509_certificate(text.encode())
            found.append(Ending(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc.timestamp()))
        except (ValueError, TypeError):
            continue
    return min(found, key=lambda ending: ending.not_after_s, default=None)
