# SPDX-License-Identifier: Apache-2.0
"""Can Python read the whole table of faults?"""

from __future__ import annotations

from pylae import _core


def test_every_fault_has_every_column_and_a_name_of_its_own() -> None:
    rows = _core.faults()
    columns = {"name", "room", "side", "status", "may_have_acted", "retry", "phrase", "cure"}
    columns |= {"response_flag", "tyk_flag", "proxy_status"}
    assert all(columns <= set(row) for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)
    assert {row["side"] for row in rows} == {"client", "gateway", "upstream"}
    assert {row["retry"] for row in rows} == {"never", "nothing_sent", "idempotent"}
    assert all(row["cure"] and row["phrase"] for row in rows)
