"""Who is measured when: rounds in which each comes once, in random order.

Layer: lab.bench (imports entrants, results).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .entrants import FAILURES, Entrant, reason_of
from .results import Absent, Row, Sample

Progress = Callable[[int, int], None]
"""Told after each round: how many are done, of how many."""


@dataclass(frozen=True)
class Schedule:
    """How often, in which order (the seed decides), and seconds of silence before each run.

    The pause is for what the run before left to do: a daemon that cleans up, a file system that writes back. Without it
    one entrant's leftovers are in the next one's time.
    """

    rounds: int
    warmups: int
    seed: int
    pause: float = 0.03


def measure(
    entrants: Sequence[Entrant], schedule: Schedule, progress: Progress
) -> tuple[tuple[Row, ...], tuple[Absent, ...]]:
    """Run all rounds. An entrant that fails once is out, with its reason: its rounds could no longer be paired."""
    chance = random.Random(schedule.seed)
    taken: dict[str, list[Sample]] = {entrant.name: [] for entrant in entrants}
    failures: dict[str, Absent] = {}
    total = schedule.warmups + schedule.rounds
    for number in range(total):
        for entrant in chance.sample(list(entrants), len(entrants)):
            if entrant.name in failures:
                continue
            time.sleep(schedule.pause)
            try:
                sample = entrant.run()
            except FAILURES as error:
                reason = f"failed in round {number + 1}: {reason_of(error)}"
                failures[entrant.name] = Absent(entrant.name, entrant.label, reason)
                continue
            if number >= schedule.warmups:
                taken[entrant.name].append(sample)
        progress(number + 1, total)
    rows = tuple(_row(entrant, taken[entrant.name]) for entrant in entrants if entrant.name not in failures)
    return rows, tuple(failures.values())


def _row(entrant: Entrant, samples: Sequence[Sample]) -> Row:
    return Row(
        entrant.name,
        entrant.label,
        entrant.version,
        entrant.note,
        tuple(sample.first for sample in samples),
        tuple(sample.exit for sample in samples if sample.exit is not None),
    )
