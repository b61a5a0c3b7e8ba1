"""Results as text: a table for the terminal, and Markdown for a page.

Layer: lab.bench (imports results). Pure.

Times are milliseconds, a virtual machine's seconds; a spread is its median with the quartiles: half of all runs lie
between them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .results import BASE, EXIT, FIRST, PAIRS, Pair, Results, Row, Spread, spread

WIDTH = 118
MS = 1e6
"""Nanoseconds in a millisecond."""
WARM = "warm"
MILESTONES = {
    "hypervisor": "QEMU is up",
    "kernel": "its kernel speaks",
    "userspace": "userspace begins",
    "workload": "the program's line",
    "exit": "switched off",
}
"""Those of lab/vm/machine.py, in a reader's words."""
_HEADS = ("median", "quartiles", "least", f"× {BASE}")
_PROSE = ("plain", "warm", "start")
"""Rows that aren't called by a command to type."""


def number(value: float) -> str:
    """A measured number with the digits that it can bear: 0.71, 3.2, 27.4, 305, 2,480."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def quartiles(found: Spread, scale: float = 1.0) -> str:
    """The middle half: "2.9–3.4"."""
    return f"{number(found.lower / scale)}–{number(found.upper / scale)}"


def table(results: Results) -> str:
    """All that was measured, for a terminal of WIDTH columns."""
    parts = (_head, _rows, _pairs, _guest, _absent, _notes)
    return "\n\n".join(text for part in parts if (text := part(results))) + "\n"


def _head(results: Results) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    return "\n".join([*textwrap.wrap(facts, WIDTH), f"{_how(results)}; seed {results.seed}, {results.began}"])


def _how(results: Results) -> str:
    return (
        f"{results.rounds} rounds after {results.warmups} to warm up, each of all rows in random order; "
        "× compares within a round"
    )


def _rows(results: Results) -> str:
    if not results.rows:
        return ""
    body = align([["", "", *_HEADS, *_HEADS], *(_cells(results, row) for row in results.rows)], left=2)
    start = body[0].index(_HEADS[0])
    half = (len(body[0]) - start) // 2
    title = " " * start + "to the first instruction, ms".center(half) + "to the end, ms".center(half)
    return "\n".join([title.rstrip(), *body])


def _cells(results: Results, row: Row) -> list[str]:
    cells = [row.name, row.label]
    for phase in (FIRST, EXIT):
        times = row.times(phase)
        if times:
            found, ratio = spread(times), results.ratio(row.name, BASE, phase)
            cells += [number(found.median / MS), quartiles(found, MS), number(found.least / MS)]
            cells.append(number(ratio.median) if ratio else "–")
        else:
            cells += ["–", "", "", ""]
    return cells


def align(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns as wide as their widest cell: the first `left` ones flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    ]


def verdict(results: Results, pair: Pair) -> str:
    """What has become of a pair's aim: "met", "missed", or "" where there is none."""
    ratio = results.ratio(pair.name, pair.against, FIRST)
    if pair.limit is None or ratio is None:
        return ""
    return "met" if ratio.median < pair.limit else "missed"


def _pairs(results: Results) -> str:
    lines = [["times as long as, pair by pair", "to first", "", "to end", "", ""]]
    for pair in PAIRS:
        ratios = [results.ratio(pair.name, pair.against, phase) for phase in (FIRST, EXIT)]
        if not all(ratios):
            continue
        cells = [f"  {pair.name} / {pair.against}"]
        cells += [text for ratio in ratios if ratio for text in (number(ratio.median), f"({quartiles(ratio)})")]
        said = verdict(results, pair)
        lines.append([*cells, f"aim: start below {pair.limit:g}, {said}" if said else ""])
    return "\n".join(align(lines, left=1)) if len(lines) > 1 else ""


def _guest(results: Results) -> str:
    if results.guest is None:
        return ""
    guest, warm = results.guest, results.row(WARM)
    title = f"virtual machine, seconds; accelerator {guest.accelerator}; {len(guest.runs)} starts, one after the other"
    lines = [["  milestone", "median", "quartiles", "least"]]
    for name, found in guest.milestones().items():
        cells = [number(found.median), quartiles(found), number(found.least)]
        lines.append([f"  {MILESTONES.get(name, name)}", *cells])
    workload = guest.milestones().get("workload")
    ending = []
    if warm and workload:
        factor = workload.median / (spread(warm.first).median / 1e9)
        ending = [f"  to the program's line: {number(factor)} × {warm.label} (medians)"]
    return "\n".join([title, *align(lines, left=1), *ending])


def _absent(results: Results) -> str:
    lines = [f"  {entry.name}: {entry.label}: {entry.reason}" for entry in results.absent]
    return "\n".join(["not measured", *lines]) if lines else ""


def _notes(results: Results) -> str:
    lines = [(row.name, row.version, row.note) for row in results.rows]
    if results.guest:
        lines.append(("vm", "", f"{'; '.join((results.guest.reason, *results.guest.notes))}"))
    return "\n".join(_note(*line) for line in lines)


def _note(name: str, version: str, note: str) -> str:
    head = f"  {name} ({version})" if version else f"  {name}"
    return textwrap.fill(f"{head}: {note}", WIDTH, subsequent_indent="    ")


# ── Markdown ──────────────────────────────────────────────────────────────────────────────────────────────────────


def markdown(results: Results) -> str:
    """The rows as a Markdown table, with the machine and what the numbers are in a paragraph below it."""
    lines = [
        f"| | first instruction, ms | × `{BASE}` | end, ms | × `{BASE}` |",
        "|---|---:|---:|---:|---:|",
        *(_markdown_row(results, row) for row in results.rows),
        *_markdown_guest(results),
        "",
        f"Medians, with quartiles in brackets, of {_how(results)}. {_markdown_machine(results)}",
    ]
    if results.absent:
        lines += ["", "Not measured: " + "; ".join(f"{entry.label} ({entry.reason})" for entry in results.absent) + "."]
    return "\n".join(lines) + "\n"


def _markdown_row(results: Results, row: Row) -> str:
    cells = [row.label if row.name in _PROSE else f"`{row.label}`"]
    for phase in (FIRST, EXIT):
        times, ratio = row.times(phase), results.ratio(row.name, BASE, phase)
        found = spread(times) if times else None
        cells.append(f"{number(found.median / MS)} ({quartiles(found, MS)})" if found else "–")
        cells.append(number(ratio.median) if ratio else "–")
    return f"| {' | '.join(cells)} |"


def _markdown_guest(results: Results) -> list[str]:
    if results.guest is None:
        return []
    base = results.row(BASE)
    cells = [f"virtual machine (QEMU, {results.guest.accelerator})"]
    for milestone, phase in (("workload", FIRST), ("exit", EXIT)):
        found = results.guest.milestones().get(milestone)
        if found is None:
            cells += ["–", "–"]
            continue
        cells.append(f"{number(found.median * 1000)} ({quartiles(found, 1 / 1000)})")
        cells.append(number(found.median * 1e9 / spread(base.times(phase)).median) if base else "–")
    return [f"| {' | '.join(cells)} |"]


def _markdown_machine(results: Results) -> str:
    facts = "; ".join(f"{name} {value}" for name, value in results.machine.items())
    return f"Machine: {facts}. Measured {results.began[:10]}."
