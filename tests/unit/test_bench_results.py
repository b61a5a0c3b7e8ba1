"""Results: their statistics, and their way to JSON and back."""

from __future__ import annotations

import json

import pytest

from minicontainer.errors import IntegrityError
from minicontainer.lab.bench.entrants import LABELS
from minicontainer.lab.bench.results import (
    EXIT,
    FIRST,
    PAIRS,
    Absent,
    GuestRuns,
    Results,
    Row,
    Spread,
    from_document,
    spread,
)


def results(**changes) -> Results:
    """A small run: unshare takes 1, 2, 3 to the first instruction, warm twice, thrice and four times as long."""
    values = {
        "began": "2025-01-31T12:00:00Z",
        "rounds": 3,
        "warmups": 1,
        "seed": 7,
        "machine": {"processor": "Zilog Z80", "cores": "1"},
        "rows": (
            Row("unshare", "unshare", "2.38", "", (1, 2, 3), (10, 20, 30)),
            Row("warm", "warm run", "0.1", "a note", (2, 6, 12), ()),
        ),
        "absent": (Absent("crun", "crun run", "not installed"),),
        "guest": GuestRuns("tcg", "no kvm", ("slow",), ({"kernel": 1.0, "exit": 2.0}, {"kernel": 3.0})),
    }
    return Results(**{**values, **changes})


def test_a_spread_has_the_quartiles_of_what_was_measured():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(1, 2, 3, 4, 5)
    assert spread([1, 2]) == Spread(1, 1.25, 1.5, 1.75, 2)
    assert spread([7]) == Spread(7, 7, 7, 7, 7)


def test_ratios_are_taken_round_by_round():
    assert results().ratio("warm", "unshare", FIRST) == spread([2, 3, 4])
    assert results().ratio("unshare", "unshare", EXIT) == Spread(1, 1, 1, 1, 1)


@pytest.mark.parametrize(("name", "against", "phase"), [("warm", "unshare", EXIT), ("warm", "crun", FIRST)])
def test_without_numbers_there_is_no_ratio(name, against, phase):
    assert results().ratio(name, against, phase) is None


def test_a_milestone_counts_where_every_start_reached_it():
    assert results().guest.milestones() == {"kernel": Spread(1, 1.5, 2, 2.5, 3)}


@pytest.mark.parametrize("changes", [{}, {"guest": None}, {"rows": (), "absent": ()}])
def test_results_come_back_from_json(changes):
    before = results(**changes)
    assert from_document(json.loads(json.dumps(before.as_document()))) == before


@pytest.mark.parametrize(
    "document",
    [None, [], {}, "x", {"format": 1}, {"format": 1, "rows": 3}, {**results().as_document(), "rows": [{"name": "x"}]}],
)
def test_what_is_not_ours_is_refused(document):
    with pytest.raises(IntegrityError, match="not results of this benchmark"):
        from_document(document)


def test_another_format_is_named():
    with pytest.raises(IntegrityError, match="results of format 2, and this knows format 1"):
        from_document({**results().as_document(), "format": 2})


def test_what_is_compared_can_be_measured():
    assert {name for pair in PAIRS for name in (pair.name, pair.against)} <= set(LABELS)
