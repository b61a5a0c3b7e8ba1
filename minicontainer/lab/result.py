"""What a race measured: two contestants, one clock, and the few numbers that are compared.

Layer: lab. Pure values over the snapshots of `measure`; the pictures are drawn from them by `drawing` (live, SVG) and
`figures` (matplotlib).

    container, machine = race.result()
    machine.start_up / container.start_up       how many times longer
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from .measure import Milestone, Snapshot

MIB = 1024 * 1024
FINISH = "workload"
"""The milestone that a contestant is measured by: the first line that the application prints."""


@dataclass(frozen=True)
class Outcome:
    """What one contestant reached: times in seconds since it was asked to start, memory in bytes."""

    label: str
    accelerator: str
    """"kvm" or "tcg" for a virtual machine, empty for a container: there is nothing to accelerate."""
    milestones: tuple[Milestone, ...]
    start_up: float
    """Seconds until the application's first line."""
    memory: int
    """The most that it was seen with, as PSS: its own pages, and its share of those that it has in common."""
    output: tuple[str, ...]
    """The lines that the application printed."""


@dataclass(frozen=True)
class RaceResult:
    """The outcomes of a race, in the order of its lanes: `container, machine = result`."""

    outcomes: tuple[Outcome, ...]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __repr__(self) -> str:
        return f"RaceResult({', '.join(outcome.label for outcome in self.outcomes)})"

    def _repr_html_(self) -> str:
        """A table for the notebook: a row for each contestant, its milestones in their order."""
        rows = "".join(_row(outcome) for outcome in self.outcomes)
        heads = "".join(
            f'<th style="text-align:left">{head}</th>' for head in ("", "accelerator", "milestones", "memory (PSS)")
        )
        return f'<table class="mc-result"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(outcome: Outcome) -> str:
    marks = " → ".join(f"{escape(mark.name)} <b>{seconds(mark.seconds)}</b>" for mark in outcome.milestones)
    accelerator = escape(outcome.accelerator or "none needed")
    cells = (f"<b>{escape(outcome.label)}</b>", accelerator, marks, f"<b>{outcome.memory / MIB:.0f} MiB</b>")
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def finish(shot: Snapshot) -> float | None:
    """Seconds until the application's first line, None as long as it hasn't come."""
    return next((mark.seconds for mark in shot.milestones if mark.name == FINISH), None)


def peak(shot: Snapshot) -> int:
    """The most memory that a contestant was seen with, in bytes."""
    return max((sample.bytes for sample in shot.samples), default=0)


def verdict(shots: tuple[Snapshot, ...]) -> str:
    """The result of two contestants in one line, once both have finished: how many times the time and the memory."""
    if len(shots) != 2:
        return ""
    (first, second), (less, more) = (finish(shot) for shot in shots), (peak(shot) for shot in shots)
    if not first or not second or not less or not more:
        return ""
    return f"{shots[1].label}: {times(second / first)} the time, {times(more / less)} the memory"


def times(ratio: float) -> str:
    """A ratio with the two digits of it that mean something: "180 ×", "1.4 ×"."""
    if ratio < 10:
        return f"{ratio:.1f} ×"
    digits = 10 ** (math.floor(math.log10(ratio)) - 1)
    return f"{round(ratio / digits) * digits:.0f} ×"


def seconds(value: float) -> str:
    """A time with the digits that such a measurement can bear: "0.014 s", "2.52 s", "18.3 s"."""
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
