"""A container as a contestant, on an engine that only keeps books."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import ContainerNotFound
from minicontainer.lab.contestant import ContainerContestant, family, nanoseconds, remove_orphans, weigh
from minicontainer.lab.measure import pss
from minicontainer.runtime.logs import timestamp


class Books:
    """What a contestant asks of an engine: run, states, state_of, logs, remove. Times: milliseconds after `run`."""

    def __init__(self) -> None:
        self.books: dict[str, dict[str, Any]] = {}
        self.lines: list[tuple[int, bytes]] = []
        self.asked = 0
        self.containers = self

    def run(self, image: str, command: list[str], *, detach: bool, name: str, network: str) -> Any:
        assert detach
        self.asked = time.time_ns()
        self.add("c0ffee", name, started=9)
        return type("Container", (), {"id": "c0ffee"})

    def add(self, identifier: str, name: str, started: int = 0, status: str = "running") -> None:
        moment = timestamp(self.asked + started * 1_000_000)
        self.books[identifier] = {
            "id": identifier,
            "name": name,
            "status": status,
            "startedAt": moment,
            "exitCode": 3,
            "monitor": [os.getpid(), 0],
        }

    def state_of(self, identifier: str) -> dict[str, Any]:
        if identifier not in self.books:
            raise ContainerNotFound(identifier)
        return self.books[identifier]

    def logs(self, identifier: str) -> Iterator[tuple[str, bytes, str]]:
        for moment, data in self.lines:
            yield "stdout", data, timestamp(self.asked + moment * 1_000_000)

    def states(self, ended: bool = False) -> list[dict[str, Any]]:
        return list(self.books.values())

    def remove(self, identifier: str, force: bool = False) -> None:
        assert force
        self.state_of(identifier)
        del self.books[identifier]


@pytest.fixture
def books() -> Books:
    return Books()


def contestant(books: Books) -> ContainerContestant:
    return ContainerContestant(books, "busybox", ["uname", "-r"])  # type: ignore[arg-type]


def milestones(racer: ContainerContestant) -> dict[str, float]:
    """By name, in milliseconds."""
    return {mark.name: round(mark.seconds * 1000) for mark in racer.snapshot().milestones}


def test_moments_are_those_that_the_monitor_wrote_down(books: Books) -> None:
    racer = contestant(books)
    assert racer.snapshot().milestones == ()
    racer.start()
    assert milestones(racer) == {"process": 9}
    assert not racer.snapshot().done
    books.lines = [(14, b"6.1\n"), (90, b"more\n")]
    assert milestones(racer) == {"process": 9, "workload": 14}
    assert racer.snapshot().output == ("6.1", "more")
    assert not racer.snapshot().done  # it runs on


def test_memory_is_that_of_the_monitor_and_all_below_it(books: Books) -> None:
    racer = contestant(books)
    racer.start()
    (sample,) = racer.snapshot().samples
    assert sample.bytes >= pss(os.getpid()) // 2 > 0
    assert len(racer.snapshot().samples) == 2


def test_stop_removes_the_container_and_keeps_what_was_seen(books: Books) -> None:
    racer = contestant(books)
    racer.start()
    books.lines = [(14, b"6.1\n")]
    seen = racer.snapshot()
    racer.stop()
    racer.stop()
    assert books.books == {}
    assert racer.snapshot() == seen


def test_a_container_that_someone_else_removed_is_no_error(books: Books) -> None:
    racer = contestant(books)
    racer.start()
    books.books.clear()
    racer.snapshot()
    racer.stop()


def test_one_that_ends_without_a_word_says_so(books: Books) -> None:
    racer = contestant(books)
    racer.start()
    books.books["c0ffee"]["status"] = "exited"
    shot = racer.snapshot()
    assert shot.done
    assert shot.error == "it ended with exit code 3 before it printed a line"
    assert shot.samples == ()


def test_starting_again_begins_anew(books: Books) -> None:
    racer = contestant(books)
    racer.start()
    racer.snapshot()
    racer.start()
    assert len(books.books) == 1
    assert len(racer.snapshot().samples) == 1


def test_containers_of_killed_notebooks_are_removed(books: Books) -> None:
    books.add("1", "race-4194305")  # above the highest process id that Linux gives (pid_max)
    books.add("2", f"race-{os.getpid()}")
    books.add("3", "race-day")
    books.add("4", "web")
    remove_orphans(books)  # type: ignore[arg-type]
    assert sorted(books.books) == ["2", "3", "4"]


def test_a_family_is_found_by_its_parents(tmp_path: Path) -> None:
    for pid, parent, name in (
        (1, 0, "init"),
        (10, 1, "mon (1) x"),
        (11, 10, "sh"),
        (12, 11, "sleep"),
        (20, 1, "other"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} 0\n")
    (tmp_path / "30").mkdir()  # ended between the listing and the look
    assert sorted(family(10, str(tmp_path))) == [10, 11, 12]


def test_a_process_that_is_gone_weighs_nothing() -> None:
    assert weigh(os.getpid()) > 0
    assert weigh(4194305) == 0


def test_moments_keep_their_nanoseconds() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert nanoseconds(timestamp(1_790_000_000_123_456_789)) == 1_790_000_000_123_456_789
