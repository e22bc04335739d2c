# SPDX-License-Identifier: Apache-2.0
"""What does the gateway say of these cases, while one looks at them? `python -m tests.matrix [name or group …]`."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path

from tests.matrix import causes, running
from tests.matrix.bed import Bed
from tests.matrix.case import CASES

assert causes


def main(wanted: list[str]) -> int:
    """Run what is wanted, or all; a line each, with the whole document of a wrong one under `--documents`."""
    shows = "--documents" in wanted
    with_stock = "--stock" in wanted
    wanted = [word for word in wanted if not word.startswith("--")]
    chosen = [case for case in CASES if not wanted or case.name in wanted or case.group in wanted]
    rows, failures = [], 0
    with tempfile.TemporaryDirectory() as folder, Bed(Path(folder)) as bed:
        for case in chosen:
            for variant in case.variants:
                try:
                    row = running.run(bed, case, variant, with_stock=with_stock)
                except Exception:
                    failures += 1
                    last = traceback.format_exc().strip().splitlines()
                    print(f"BED   {case.name} [{variant}]: {' '.join(last[-1].split())[:600]}")
                    continue
                rows.append(row)
                verdict = row.verdict
                print(
                    f"{'wrong' if row.wrong else 'right'} {case.name} [{variant}]: {row.client} -> {verdict.get('hop')}"
                    f"/{verdict.get('cause')}/{verdict.get('finding')} {verdict.get('confidence')} {row.took_s:.2f}s"
                    f" log={row.said!r}" + (f" stock={row.stock.client}: {row.stock.phrase!r}" if row.stock else "")
                )
                if row.wrong:
                    print("      " + "; ".join(row.wrong))
                    if shows:
                        print(json.dumps(row.document, indent=1))
    wrong = sum(bool(row.wrong) for row in rows)
    confident = sum(row.is_confidently_wrong for row in rows)
    print(f"{len(chosen)} cases, {len(rows)} rows, {wrong} wrong, {confident} confidently, {failures} failed injections")
    return 1 if wrong or failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
