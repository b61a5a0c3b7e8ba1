"""What a benchmark measured, what can be said of it, and its JSON.

Layer: lab.bench (imports errors). Values only.

    {"format": 1, "began": "2025-01-31T12:00:00Z", "rounds": 30, "warmups": 3, "seed": 7, "machine": {"processor": …},
     "rows":   [{"name": "runc", "label": "runc run", "version": "…", "note": "…", "first": [ns, …], "exit": [ns, …]}],
     "absent": [{"name": "crun", "label": "crun run", "reason": "not installed"}],
     "guest":  {"accelerator": "tcg", "reason": "…", "notes": ["…"], "runs": [{"kernel": seconds, …}, …]} or null}

Position i of every `first` and `exit` belongs to the same round, so that two rows can be compared pair by pair.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import IntegrityError

FORMAT = 1
FIRST = "first"
EXIT = "exit"
BASE = "unshare"
"""The row that all others are set against."""


@dataclass(frozen=True)
class Sample:
    """One run: nanoseconds from the call to the first instruction, and to the end (None where that isn't measured)."""

    first: int
    exit: int | None


@dataclass(frozen=True)
class Spread:
    """What many measurements of one thing come to: the least, the quartiles, and the most of them."""

    least: float
    lower: float
    median: float
    upper: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of one value or more. Quartiles between two values are interpolated (statistics, "inclusive")."""
    if len(values) == 1:
        return Spread(*(values[0],) * 5)
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(min(values), lower, median, upper, max(values))


@dataclass(frozen=True)
class Row:
    """All runs of one entrant, in nanoseconds, a round each; `exit` is empty where the end isn't measured."""

    name: str
    label: str
    version: str
    note: str
    first: tuple[int, ...]
    exit: tuple[int, ...]

    def times(self, phase: str) -> tuple[int, ...]:
        """The runs up to a phase: FIRST or EXIT."""
        return self.first if phase == FIRST else self.exit


@dataclass(frozen=True)
class Absent:
    """An entrant without numbers, and why."""

    name: str
    label: str
    reason: str


@dataclass(frozen=True)
class GuestRuns:
    """The starts of the virtual machine: seconds to each milestone, in their order."""

    accelerator: str
    reason: str
    notes: tuple[str, ...]
    runs: tuple[dict[str, float], ...]

    def milestones(self) -> dict[str, Spread]:
        """The spread of each milestone that every run reached."""
        names = [name for name in self.runs[0] if all(name in run for run in self.runs)]
        return {name: spread([run[name] for run in self.runs]) for name in names}


@dataclass(frozen=True)
class Pair:
    """Two rows worth comparing: `name` should take less than `limit` times what `against` takes; None: no such aim."""

    name: str
    against: str
    limit: float | None = None


PAIRS = (
    Pair("warm", "unshare", 2.0),
    Pair("warm", "crun", 1.0),
    Pair("warm", "runc"),
    Pair("command", "runc", 1.0),
    Pair("command", "crun"),
    Pair("command", "docker-none"),
    Pair("docker-none", "runc"),
)


@dataclass(frozen=True)
class Results:
    """One run of the benchmark."""

    began: str
    rounds: int
    warmups: int
    seed: int
    machine: dict[str, str]
    rows: tuple[Row, ...]
    absent: tuple[Absent, ...]
    guest: GuestRuns | None

    def row(self, name: str) -> Row | None:
        """The row of this name, if it was measured."""
        return next((row for row in self.rows if row.name == name), None)

    def ratio(self, name: str, against: str, phase: str) -> Spread | None:
        """How many times longer one takes than another, round by round; None where one of them has no numbers."""
        mine, theirs = self.row(name), self.row(against)
        if mine is None or theirs is None or not mine.times(phase) or not theirs.times(phase):
            return None
        return spread([a / b for a, b in zip(mine.times(phase), theirs.times(phase), strict=True)])

    def as_document(self) -> dict[str, Any]:
        """The JSON document."""
        return {"format": FORMAT, **asdict(self)}


def from_document(document: Any) -> Results:
    """The results in a JSON document. Raises IntegrityError where it isn't one of ours."""
    try:
        if document["format"] != FORMAT:
            raise IntegrityError(f"results of format {document['format']}, and this knows format {FORMAT}")
        guest = document["guest"]
        return Results(
            began=document["began"],
            rounds=document["rounds"],
            warmups=document["warmups"],
            seed=document["seed"],
            machine=dict(document["machine"]),
            rows=tuple(
                Row(**{**row, "first": tuple(row["first"]), "exit": tuple(row["exit"])}) for row in document["rows"]
            ),
            absent=tuple(Absent(**entry) for entry in document["absent"]),
            guest=GuestRuns(**{**guest, "notes": tuple(guest["notes"]), "runs": tuple(guest["runs"])})
            if guest
            else None,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(f"not results of this benchmark: {error!r}", hint="./lab bench writes them") from None
