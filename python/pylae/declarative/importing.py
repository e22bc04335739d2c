# SPDX-License-Identifier: Apache-2.0
"""How does a declarative configuration get into a database?"""

from __future__ import annotations

import time

from pylae.database.dao import Catalogue, Dao
from pylae.database.strategies.off.holding import decode_row
from pylae.declarative.document import Progress, kinds_of, parse

_PROGRESS_EVERY = 500


def import_text(dao: Dao, catalogue: Catalogue, text: bytes, progress: Progress | None = None) -> int:
    """Stores everything that a text declares, beside what is there already; part of the transaction of `dao`.

    Returns:
        How many rows came or changed.

    Raises:
        InvalidDeclarativeConfig: the text is wrong.
        UniqueViolation, ForeignKeyViolation: it does not go with what is there.
    """
    now_s = time.time()
    holding = parse(text).flatten(catalogue, present=dao.reader, now_s=now_s)
    total, done, changed_count = sum(len(rows.encoded) for rows in holding.values()), 0, 0
    for name in kinds_of(catalogue):
        rows = holding[name]
        for id_, encoded in rows.encoded.items():
            expires_at_s = rows.expires_at_s.get(id_)
            changed_count += dao.put(name, decode_row(encoded), now_s, None if expires_at_s is None else expires_at_s - now_s)
            done += 1
            if progress is not None and (done % _PROGRESS_EVERY == 0 or done == total):
                progress(done, total)
    return changed_count
