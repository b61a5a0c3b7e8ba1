"""Rounds: each entrant once, in random order, and none that has failed."""

from __future__ import annotations

import pytest

from minicontainer.errors import StartFailed
from minicontainer.lab.bench.entrants import Entrant
from minicontainer.lab.bench.results import Absent, Sample
from minicontainer.lab.bench.rounds import Schedule, measure


class Fake:
    """Entrants that write down when they were run; a sample is the number of the run."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def entrant(self, name: str, fails_at: int = 0, error: Exception | None = None) -> Entrant:
        def run() -> Sample:
            self.runs.append(name)
            count = self.runs.count(name)
            if count == fails_at:
                raise error or StartFailed("it broke", hint="mend it")
            return Sample(count, 10 * count)

        return Entrant(name, "1.0", "a note", run)

    def rounds(self, size: int) -> list[list[str]]:
        return [self.runs[at : at + size] for at in range(0, len(self.runs), size)]


def nothing(_done: int, _total: int) -> None:
    pass


def test_each_comes_once_a_round_in_changing_order():
    fake = Fake()
    measure([fake.entrant(name) for name in ("warm", "crun", "runc")], Schedule(20, 2, 1, 0), nothing)
    orders = {tuple(each) for each in fake.rounds(3)}
    assert all(sorted(each) == ["crun", "runc", "warm"] for each in orders)
    assert len(orders) > 3
    assert len(fake.runs) == 3 * 22


def test_the_seed_decides_the_order():
    runs = []
    for seed in (7, 7, 8):
        fake = Fake()
        measure([fake.entrant(name) for name in ("warm", "crun", "runc")], Schedule(12, 0, seed, 0), nothing)
        runs.append(fake.runs)
    assert runs[0] == runs[1] != runs[2]


def test_warm_ups_do_not_count():
    rows, absent = measure([Fake().entrant("runc")], Schedule(3, 2, 1, 0), nothing)
    assert absent == ()
    (row,) = rows
    assert (row.name, row.label, row.version, row.note) == ("runc", "runc run", "1.0", "a note")
    assert row.first == (3, 4, 5)
    assert row.exit == (30, 40, 50)


def test_without_an_end_there_is_none():
    entrant = Entrant("start", "", "", lambda: Sample(5, None))
    rows, _ = measure([entrant], Schedule(2, 0, 1, 0), nothing)
    assert rows[0].exit == ()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "failed in round 3: it broke (mend it)"), (TimeoutError("too slow"), "failed in round 3: too slow")],
)
def test_who_fails_is_out_and_the_others_go_on(error, reason):
    fake = Fake()
    entrants = [fake.entrant("warm"), fake.entrant("crun", fails_at=3, error=error)]
    rows, absent = measure(entrants, Schedule(5, 1, 1, 0), nothing)
    assert [row.name for row in rows] == ["warm"]
    assert len(rows[0].first) == 5
    assert absent == (Absent("crun", "crun run", reason),)
    assert fake.runs.count("crun") == 3


def test_progress_is_told_after_each_round():
    told: list[tuple[int, int]] = []
    measure([Fake().entrant("runc")], Schedule(2, 1, 1, 0), lambda *counts: told.append(counts))
    assert told == [(1, 3), (2, 3), (3, 3)]
