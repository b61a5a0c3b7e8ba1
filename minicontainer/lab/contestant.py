"""A container as a contestant: what it reached when, and what it costs the host.

Layer: lab. Nothing is timed here by looking often: both moments were written down by the container's monitor as they
happened, and are only read here.

    "process"     state.json, startedAt     the walls stand, and the image's command is about to be executed
    "workload"    log.jsonl, first line     the application has printed its first line

Memory is the PSS (proc_pid_smaps(5)) of all processes that are there because of this container: its own, and its
monitor. It is the same measure as a virtual machine's QEMU is weighed with. The engine's launcher, one for all
containers and running before them, counts for none, as Docker's daemon wouldn't.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import ContainerNotFound, MinicontainerError
from .measure import Milestone, Sample, Snapshot, pss
from .result import FINISH

if TYPE_CHECKING:
    from ..engine import Engine

_NAME = "race-"
"""Names of the containers begin so; the process id of the kernel that they belong to follows."""


class ContainerContestant:
    """Starts `command` in a container of `image`. May be started again once it was stopped.

    The container has a name that says whose it is: one whose kernel was killed is removed by the next start.
    """

    def __init__(self, engine: Engine, image: str, command: Sequence[str], label: str = "container") -> None:
        self.label = label
        self._engine, self._image, self._command = engine, image, list(command)
        self._identifier = ""
        self._asked = 0
        self._samples: list[Sample] = []
        self._latest = self._snapshot()

    def start(self) -> None:
        """Start the container. Raises what the engine raises: ImageNotFound, StartFailed, HostError."""
        self.stop()
        remove_orphans(self._engine)
        self._samples = []
        self._latest = self._snapshot()
        self._asked = time.time_ns()
        container = self._engine.containers.run(
            self._image, self._command, detach=True, name=f"{_NAME}{os.getpid()}", network="none"
        )
        self._identifier = container.id

    def snapshot(self) -> Snapshot:
        """Look at the container: milestones, one more sample of its memory, its output so far."""
        identifier = self._identifier
        if identifier:
            try:
                self._latest = self._look(identifier)
            except ContainerNotFound:  # stopped, by us or by someone else: the latest look is the last
                pass
        return self._latest

    def stop(self) -> None:
        """End and remove the container. What was seen of it stays. Nothing, if there is none."""
        identifier, self._identifier = self._identifier, ""
        if identifier:
            try:
                self._engine.remove(identifier, force=True)
            except ContainerNotFound:
                pass

    def _look(self, identifier: str) -> Snapshot:
        state = self._engine.state_of(identifier)
        log = list(self._engine.logs(identifier))
        milestones = []
        if state["startedAt"]:
            milestones.append(Milestone("process", self._since(state["startedAt"])))
        if log:
            milestones.append(Milestone(FINISH, self._since(log[0][2])))
        ended = state["status"] == "exited"
        if not ended:
            memory = sum(weigh(pid) for pid in family(state["monitor"][0]))
            self._samples.append(Sample((time.time_ns() - self._asked) / 1e9, memory))
        error = f"it ended with exit code {state['exitCode']} before it printed a line" if ended and not log else ""
        output = b"".join(data for _, data, _ in log).decode(errors="replace")
        return self._snapshot(tuple(milestones), tuple(output.splitlines()), ended, error)

    def _since(self, moment: str) -> float:
        return (nanoseconds(moment) - self._asked) / 1e9

    def _snapshot(
        self, milestones: tuple[Milestone, ...] = (), output: tuple[str, ...] = (), done: bool = False, error: str = ""
    ) -> Snapshot:
        return Snapshot(self.label, "", milestones, tuple(self._samples), output, done, error)


def remove_orphans(engine: Engine) -> None:
    """Remove the racing containers of notebooks that are gone: a killed kernel had no time to do it."""
    for state in engine.states(ended=True):
        owner = state["name"].removeprefix(_NAME)
        if owner != state["name"] and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            try:
                engine.remove(state["id"], force=True)
            except MinicontainerError:  # someone else was faster, or it isn't ours to remove: no reason not to race
                pass


def nanoseconds(moment: str) -> int:
    """A moment of RFC 3339, in UTC with nanoseconds, as nanoseconds since 1970."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])


def family(pid: int, proc: str = "/proc") -> list[int]:
    """A process and all its descendants, by the parents that /proc/PID/stat names (proc_pid_stat(5))."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(proc):
        if entry.isdigit():
            try:
                with open(f"{proc}/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:  # ended since the folder was listed
                continue
            children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def weigh(pid: int) -> int:
    """A process's PSS in bytes; 0 for one that has just ended, or isn't ours to look into."""
    try:
        return pss(pid)
    except OSError:
        return 0
