"""The race: contestants start at the same moment, and the notebook watches them.

Layer: lab. Three threads' worth of work, none of it in the kernel's own thread, which has to be free for the buttons:

    race.start()  ──▶ one thread a contestant: contestant.start()          may block; the others don't wait for it
                  └─▶ one sampler: 4.5 times a second, snapshots ──draw──▶ the widget's value
    race.result() ──  waits for the sampler's end: all finished and settled, or stopped, or out of time

Rules. A contestant never outlives its race: the sampler stops all when the race is over, for whatever reason. At most
one race runs in a process, because two would measure each other. `stop` may be called at any time, from any thread,
and again. A killed kernel can't stop anything: that its contestants end all the same is their own duty.
"""

from __future__ import annotations

import atexit
import threading
import time
from dataclasses import replace
from typing import Any

import ipywidgets

from ..errors import MinicontainerError, WrongState
from .contestant import ContainerContestant
from .drawing import TITLE, draw
from .measure import Contestant, Snapshot
from .result import Outcome, RaceResult, finish, peak

INTERVAL = 0.22
"""Seconds from one picture to the next."""
SETTLE = 2.0
"""Seconds that the memory is watched for after the last application has answered."""
LIMIT = 180.0
"""Seconds after which a race is stopped, whoever is still on the way."""

__all__ = ["ContainerContestant", "Race", "stop_current"]

READY, RUNNING, ENDING = "ready", "running", "ending"
FINISHED, STOPPED, TIMED_OUT = "finished", "stopped", "out of time"
_NOTES = {
    READY: "not started yet",
    RUNNING: "the race is on",
    ENDING: "ending all …",
    FINISHED: "finished, and all ended",
    STOPPED: "stopped, and all ended",
    TIMED_OUT: "out of time, and all ended",
}


class Race:
    """Contestants, a clock and a live picture. Show it as the last expression of a cell: `race.start()`."""

    _one_at_a_time = threading.Lock()
    _current: Race | None = None

    def __init__(
        self, *contestants: Contestant, title: str = TITLE, settle: float = SETTLE, limit: float = LIMIT
    ) -> None:
        self.contestants = contestants
        self.state = READY
        self._title, self._settle, self._limit = title, settle, limit
        self._errors: dict[int, MinicontainerError] = {}
        self._cancel, self._over = threading.Event(), threading.Event()
        self._sampler: threading.Thread | None = None
        self._began, self._elapsed = 0.0, 0.0
        # One that has raced before, in an earlier run of the cell, still tells of that race.
        nothing: dict[str, Any] = {"milestones": (), "samples": (), "output": (), "done": False, "error": ""}
        self._blank = tuple(replace(contestant.snapshot(), **nothing) for contestant in contestants)
        self._shots: tuple[Snapshot, ...] = self._blank
        self._started: set[int] = set()
        self._view = _View(self)
        self._redraw()

    def start(self) -> Race:
        """Start all contestants and return at once. A race that still runs, this one or another, is stopped before."""
        with Race._one_at_a_time:
            stop_current()
            Race._current = self
            self.state, self._errors, self._started = RUNNING, {}, set()
            self._shots, self._elapsed = self._blank, 0.0
            self._cancel, self._over = threading.Event(), threading.Event()
            self._began = time.monotonic()
            self._sampler = threading.Thread(target=self._run, name="race", daemon=True)
            self._sampler.start()
        return self

    def stop(self) -> None:
        """End the race and its contestants, and wait until they have ended. Nothing, if none is running."""
        self._cancel.set()
        if self._sampler is not None and self._sampler is not threading.current_thread():
            self._sampler.join()

    def cancel(self) -> None:
        """The same without waiting, for the Stop button."""
        self._cancel.set()

    def result(self) -> RaceResult:
        """Wait for the end and return what was measured.

        Raises WrongState for a race that wasn't started or was stopped early, and the contestant's own error where
        one couldn't start.
        """
        if self._sampler is None:
            raise WrongState("the race hasn't been started", hint="run the cell with race.start()")
        try:
            self._over.wait()
        except KeyboardInterrupt:
            self.stop()
            raise
        for error in self._errors.values():
            raise error
        late = [shot for shot in self._shots if finish(shot) is None]
        if late:
            why = "; ".join(shot.error for shot in late if shot.error) or f"the race was {self.state}"
            names = " and ".join(shot.label for shot in late)
            raise WrongState(f"{names} didn't finish: {why}", hint="run the cell with race.start() again")
        return RaceResult(tuple(_outcome(shot) for shot in self._shots))

    def _run(self) -> None:
        """The sampler's thread: from the start to the last contestant's end."""
        cancel, over, end = self._cancel, self._over, STOPPED
        starters = [threading.Thread(target=self._start, args=(n,), daemon=True) for n in range(len(self.contestants))]
        try:
            for starter in starters:
                starter.start()
            end = self._watch(cancel)
            self.state = ENDING
            self._redraw()
        finally:
            for starter in starters:  # what is still being started can't be stopped yet
                starter.join()
            for contestant in self.contestants:
                contestant.stop()
            self.state = end
            try:
                self._redraw()
            finally:
                over.set()

    def _watch(self, cancel: threading.Event) -> str:
        settled: float | None = None
        while not cancel.wait(INTERVAL):
            self._elapsed = time.monotonic() - self._began
            self._shots = tuple(self._look(place) for place in range(len(self.contestants)))
            self._redraw()
            if settled is None and all(shot.done or finish(shot) is not None for shot in self._shots):
                settled = self._elapsed
            if settled is not None and self._elapsed >= settled + self._settle:
                return FINISHED
            if self._elapsed > self._limit:
                return TIMED_OUT
        return STOPPED

    def _start(self, place: int) -> None:
        try:
            self.contestants[place].start()
        except MinicontainerError as error:
            self._errors[place] = error
        except Exception as error:  # noqa: BLE001  shown in its lane: a traceback in a thread is seen by nobody
            self._errors[place] = MinicontainerError(f"{type(error).__name__}: {error}")
        self._started.add(place)

    def _look(self, place: int) -> Snapshot:
        shot = self.contestants[place].snapshot() if place in self._started else self._blank[place]
        error = self._errors.get(place)
        return replace(shot, error=error.message, done=True) if error else shot

    def _redraw(self) -> None:
        self._view.show(self.svg(), self.state)

    def svg(self) -> str:
        """The picture as it is now."""
        return draw(self._shots, self._elapsed, self._title, _NOTES[self.state])

    def __repr__(self) -> str:
        return f"Race({', '.join(contestant.label for contestant in self.contestants)})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Live where there is a kernel, a picture elsewhere, and a text that never changes for tests."""
        return {**self._view.mimebundle(), "image/svg+xml": self.svg(), "text/plain": repr(self)}


class _View:
    """The widget: the picture, Stop and Again."""

    def __init__(self, race: Race) -> None:
        self._picture = ipywidgets.HTML()
        self._stop = ipywidgets.Button(description="Stop", icon="stop", tooltip="End both now")
        self._again = ipywidgets.Button(description="Again", icon="refresh", tooltip="Run the same race again")
        self._stop.on_click(lambda _: race.cancel())
        self._again.on_click(lambda _: race.start())
        self._box = ipywidgets.VBox([self._picture, ipywidgets.HBox([self._stop, self._again])])

    def show(self, svg: str, state: str) -> None:
        self._picture.value = svg
        self._stop.disabled = state != RUNNING
        self._again.disabled = state in (READY, RUNNING, ENDING)

    def mimebundle(self) -> dict[str, Any]:
        return dict(self._box._repr_mimebundle_() or {})


def _outcome(shot: Snapshot) -> Outcome:
    reached = finish(shot)
    assert reached is not None
    return Outcome(shot.label, shot.accelerator, tuple(shot.milestones), reached, peak(shot), shot.output)


@atexit.register
def stop_current() -> None:
    """Stop the race that runs in this process, if one does. Also called when the process ends."""
    if Race._current is not None:
        Race._current.stop()
