"""The race itself, with contestants that finish when the test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("ipywidgets", reason="the extra [lab] isn't installed")

from minicontainer.errors import HostError, WrongState
from minicontainer.lab import race as race_module
from minicontainer.lab.measure import Milestone, Sample, Snapshot
from minicontainer.lab.race import Race, stop_current
from minicontainer.lab.result import MIB


class Fake:
    """A contestant under the test's control."""

    def __init__(self, label: str, accelerator: str = "", failure: Exception | None = None) -> None:
        self.label, self.accelerator, self.failure = label, accelerator, failure
        self.finish = threading.Event()
        self.ended = False
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")
        if self.failure:
            raise self.failure

    def snapshot(self) -> Snapshot:
        if "start" not in self.calls:
            return Snapshot(self.label, self.accelerator, (), (), (), False)
        marks = (Milestone("process", 0.5), *((Milestone("workload", 2.0),) if self.finish.is_set() else ()))
        samples = (Sample(0.2, 5 * MIB), Sample(0.4, 9 * MIB), Sample(0.6, 7 * MIB))
        return Snapshot(self.label, self.accelerator, marks, samples, ("6.1",), self.ended)

    def stop(self) -> None:
        self.calls.append("stop")

    @property
    def running(self) -> bool:
        return self.calls[-1:] == ["start"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(race_module, "INTERVAL", 0.01)
    yield
    stop_current()


def eventually(condition: object) -> None:
    """Wait for something that another thread does. The limit is only there so that a failure ends."""
    end = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_start_returns_at_once_and_the_result_waits() -> None:
    left, right = Fake("Container"), Fake("Virtual machine", "tcg")
    race = Race(left, right, settle=0).start()
    assert race.state == "running"
    left.finish.set()
    right.finish.set()
    container, machine = race.result()
    assert (container.label, machine.accelerator) == ("Container", "tcg")
    assert machine.start_up == 2.0
    assert machine.memory == 9 * MIB
    assert machine.output == ("6.1",)
    assert not left.running
    assert not right.running


def test_the_picture_follows() -> None:
    left, right = Fake("Container"), Fake("Virtual machine")
    race = Race(left, right, settle=0)
    assert "not started yet" in race.svg()
    race.start()
    eventually(lambda: "process" in race.svg())
    assert "the race is on" in race.svg()
    assert race._view._picture.value.startswith("<svg")
    left.finish.set()
    right.finish.set()
    race.result()
    assert "finished, and all ended" in race._view._picture.value


def test_stop_ends_both_and_the_result_says_so() -> None:
    left, right = Fake("Container"), Fake("Virtual machine")
    race = Race(left, right).start()
    left.finish.set()
    race._view._stop.click()
    with pytest.raises(WrongState, match="Virtual machine didn't finish: the race was stopped"):
        race.result()
    assert left.calls[-1] == right.calls[-1] == "stop"


def test_again_runs_the_same_race_anew() -> None:
    left, right = Fake("Container"), Fake("Virtual machine")
    race = Race(left, right, settle=0).start()
    left.finish.set()
    right.finish.set()
    race.result()
    right.finish.clear()
    assert not race._view._again.disabled
    race._view._again.click()
    eventually(lambda: right.running)
    assert race.state == "running"  # what the first race showed doesn't end the second
    right.finish.set()
    race.result()
    assert left.calls.count("start") == 2


def test_a_race_of_contestants_that_have_raced_before_begins_at_nothing() -> None:
    left, right = Fake("Container"), Fake("Virtual machine")
    left.finish.set()
    right.finish.set()
    Race(left, right, settle=0).start().result()
    slow = threading.Event()
    right.finish.clear()
    right.start = slow.wait  # type: ignore[assignment, method-assign]
    race = Race(left, right, settle=0)
    assert "workload" not in race.svg()
    race.start()
    eventually(lambda: "workload" in race.svg())  # the other's
    assert race.state == "running"
    slow.set()
    right.finish.set()
    race.result()


def test_buttons_can_be_pressed_when_they_do_something() -> None:
    contestant = Fake("Container")
    race = Race(contestant, settle=0)
    assert race._view._stop.disabled
    race.start()
    eventually(lambda: not race._view._stop.disabled)
    assert race._view._again.disabled
    contestant.finish.set()
    race.result()
    assert race._view._stop.disabled
    assert not race._view._again.disabled


def test_a_second_race_stops_the_first() -> None:
    first, second = Fake("Container"), Fake("Container")
    Race(first).start()
    eventually(lambda: first.running)
    race = Race(second).start()
    assert not first.running
    eventually(lambda: second.running)
    race.stop()
    assert not second.running


def test_the_end_of_the_process_stops_the_race() -> None:
    contestant = Fake("Container")
    Race(contestant).start()
    eventually(lambda: contestant.running)
    stop_current()  # what atexit calls
    assert not contestant.running


def test_stop_is_harmless_before_and_after() -> None:
    contestant = Fake("Container")
    race = Race(contestant, settle=0)
    race.stop()
    with pytest.raises(WrongState, match="hasn't been started"):
        race.result()
    race.start()
    contestant.finish.set()
    race.result()
    race.stop()
    race.stop()


def test_a_contestant_that_cannot_start_is_shown_and_raised() -> None:
    left = Fake("Container")
    right = Fake("Virtual machine", failure=HostError("no QEMU here", hint="apt-get install qemu-system-x86"))
    race = Race(left, right, settle=0).start()
    left.finish.set()
    with pytest.raises(HostError, match="no QEMU here") as caught:
        race.result()
    assert caught.value.hint
    assert "✗ no QEMU here" in race.svg()
    assert left.calls[-1] == right.calls[-1] == "stop"


def test_a_bug_in_a_contestant_is_not_lost_in_its_thread() -> None:
    race = Race(Fake("Container", failure=ZeroDivisionError("oops")), settle=0).start()
    with pytest.raises(Exception, match="ZeroDivisionError: oops"):
        race.result()


def test_one_that_ends_without_finishing_loses() -> None:
    left, right = Fake("Container"), Fake("Virtual machine")
    race = Race(left, right, settle=0).start()
    left.finish.set()
    right.ended = True
    with pytest.raises(WrongState, match="Virtual machine didn't finish: the race was finished"):
        race.result()


def test_a_race_has_a_limit() -> None:
    contestant = Fake("Container")
    race = Race(contestant, limit=0.05).start()
    with pytest.raises(WrongState, match="the race was out of time"):
        race.result()
    assert not contestant.running


def test_it_shows_itself_with_and_without_a_kernel() -> None:
    race = Race(Fake("Container"), Fake("Virtual machine"))
    bundle = race._repr_mimebundle_()
    assert bundle["text/plain"] == "Race(Container, Virtual machine)"
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "model_id" in bundle["application/vnd.jupyter.widget-view+json"]
