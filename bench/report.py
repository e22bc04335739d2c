# SPDX-License-Identifier: Apache-2.0
"""How are samples told: medians, ratios within a round, the least, and the machine's noise?"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from bench.scenarios import Sample


def number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)])


def ratio(samples: list[Sample], reference: list[Sample], of: Callable[[Sample], float | None]) -> float | None:
    """Median over the rounds of this target's value over the reference's in the same round."""
    found = []
    for sample, other in zip(samples, reference, strict=False):
        value, base = of(sample), of(other)
        if value and base:
            found.append(value / base)
    return statistics.median(found) if found else None


def loads(title: str, results: dict[str, list[Sample]], reference: str) -> str:
    """One scenario's table, every ratio to the reference."""
    base = results.get(reference, [])
    head = ["target", "req/s", f"req/s x {reference}", "MiB/s", "CPU µs/req", f"x {reference}"]
    head += [
        "least",
        f"x {reference}'s least",
        "spread",
        "instr/req",
        f"x {reference}",
        "p50 ms",
        "p99 ms",
        "core used",
        "others on proxy's / load's core",
        "errors",
    ]
    rows = []
    for name, samples in results.items():
        cpu = [sample.cpu_us for sample in samples]
        least = min(sample.cpu_us for sample in base) if base else None
        instructions = [sample.instructions for sample in samples if sample.instructions]
        rows.append(
            [
                name,
                number(_median(samples, lambda sample: sample.rps)),
                number(ratio(samples, base, lambda sample: sample.rps)),
                number(_median(samples, lambda sample: sample.mib_s)),
                number(statistics.median(cpu)),
                number(ratio(samples, base, lambda sample: sample.cpu_us)),
                number(min(cpu)),
                number(min(cpu) / least if least else None),
                f"{(max(cpu) - min(cpu)) / statistics.median(cpu):.0%}",
                number(statistics.median(instructions) if instructions else None),
                number(ratio(samples, base, lambda sample: sample.instructions)),
                number(_median(samples, lambda sample: sample.p50_ms)),
                number(_median(samples, lambda sample: sample.p99_ms)),
                f"{_median(samples, lambda sample: sample.core_ratio):.0%}",
                " / ".join(f"{_median(samples, partial(_others, core)):.0%}" for core in (0, 1)),
                str(sum(sample.errors for sample in samples)),
            ]
        )
    return f"### {title}\n\n{table(head, rows)}"


def _others(core: int, sample: Sample) -> float:
    return sample.others_ratio[core]


def _median(samples: list[Sample], of: Callable[[Sample], float]) -> float:
    return statistics.median(of(sample) for sample in samples)


def figures(title: str, results: dict[str, dict[str, float]], reach: dict[str, str] | None = None) -> str:
    """A scenario of single figures, one column for each target; beside them what is to be reached, where something is.

    Raises:
        AssertionError: `reach` names a figure that there is not.
    """
    keys = list(dict.fromkeys(key for values in results.values() for key in values))
    head, rows = ["", *results], [[key, *(number(values.get(key)) for values in results.values())] for key in keys]
    if reach is not None:
        assert reach.keys() <= set(keys), f"no such figure: {sorted(reach.keys() - set(keys))}"
        head.append("reach")
        rows = [[*row, reach.get(key, "")] for key, row in zip(keys, rows, strict=True)]
    return f"### {title}\n\n{table(head, rows)}"


def head(rounds: int, seconds: float, *, counts_instructions: bool, is_quick: bool = False) -> str:
    """Where, when and how."""
    load = os.getloadavg()[0]
    text = (
        f"Measured {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} on {os.cpu_count()} cores, Linux "
        f"{platform.release()}; {rounds} rounds of {seconds:g} s, targets interleaved; proxy on one core, load and "
        f"backend on another; medians, ratios within the same round; load average at the end {load:.1f}. "
        "`others` is the noise: where it exceeds 10 %, trust the CPU columns and their ratios only; `least` is the "
        "best guess at the true cost, since neighbours only ever add."
    )
    if not counts_instructions:
        text += " Instructions were not counted: the kernel or the hardware does not allow it here."
    if is_quick:
        text = f"**Not figures: run with --quick, which shows that a scenario works.** {text}"
    return text
