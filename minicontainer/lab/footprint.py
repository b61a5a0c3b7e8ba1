"""What containers and virtual machines leave on the host, to look at while they run and to prove that nothing stays.

Layer: lab.

    before = footprint(engine)        at a chapter's beginning
    footprint(engine)                 while something runs: a table of what it is made of
    leftovers(engine, before)         at its end: what is there now and wasn't then, empty when all is gone

    containers    what the engine's state folder knows, running or not
    processes     those in the containers' control groups, and every QEMU on files of this state folder
    cgroups       those below `minicontainer`, in every hierarchy
    mounts        on the host, below the state folder; a container's own are in its mount namespace and go with it

Rule: of several engines on one host only this one's count. A group is ours if its name is a container's of ours, or if
what is in it has its root file system in our state folder, or if nothing is in it: whose it was can't be seen then.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine import Engine

PATIENCE = 5.0
"""Seconds that what was just ended gets to be gone."""

Things = frozenset[str]


@dataclass(frozen=True)
class Footprint:
    """Things on the host, kind by kind, each in words that a person can look for. False if there are none."""

    containers: Things
    processes: Things
    cgroups: Things
    mounts: Things

    def beyond(self, before: Footprint) -> Footprint:
        """What is here and wasn't before."""
        return Footprint(*(getattr(self, kind.name) - getattr(before, kind.name) for kind in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, kind.name) for kind in fields(self))

    def __repr__(self) -> str:
        things = [f"{kind.name}: {thing}" for kind in fields(self) for thing in sorted(getattr(self, kind.name))]
        return "\n".join(things) or "nothing"

    def _repr_html_(self) -> str:
        """A table for the notebook: a row for each kind."""
        rows = []
        for kind in fields(self):
            things = sorted(getattr(self, kind.name))
            shown = "<br>".join(f"<code>{escape(thing)}</code>" for thing in things)
            cells = (f"<b>{kind.name}</b>", str(len(things)), shown or "none")
            rows.append("<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>")
        return f"<table><tbody>{''.join(rows)}</tbody></table>"


def footprint(engine: Engine) -> Footprint:
    """What this engine's containers and virtual machines occupy on the host now."""
    state = os.path.realpath(engine.paths.state)
    states = {one["id"]: one["name"] for one in engine.states(ended=True)}
    groups = _groups(engine, state, set(states))
    processes = {pid for inside in groups.values() for pid in inside} | _machines(state)
    mounts = (line.split(" ")[4] for line in _read("self/mountinfo").splitlines())
    return Footprint(
        containers=frozenset(f"{name} ({identifier[:12]})" for identifier, name in states.items()),
        processes=frozenset(f"{pid} {' '.join(_words(pid))[:70]}" for pid in processes),
        cgroups=frozenset(groups),
        mounts=frozenset(point for point in mounts if point.startswith(f"{state}/")),
    )


def leftovers(engine: Engine, before: Footprint, patience: float = PATIENCE) -> Footprint:
    """What is there and wasn't `before`, once that is nothing, or `patience` seconds have passed."""
    end = time.monotonic() + patience
    while (left := footprint(engine).beyond(before)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _groups(engine: Engine, state: str, containers: set[str]) -> dict[str, list[str]]:
    """Our control groups, each with the processes in it."""
    found = {}
    for parent in {os.path.dirname(directory) for directory in engine.cgroup("0" * 64).directories}:
        for name in os.listdir(parent) if os.path.isdir(parent) else ():
            group = os.path.join(parent, name)
            if os.path.isdir(group):
                inside = _read(os.path.join(group, "cgroup.procs")).split()
                if name in containers or all(f"upperdir={state}/" in _read(f"{pid}/mountinfo") for pid in inside):
                    found[group] = inside
    return found


def _machines(state: str) -> set[str]:
    """The QEMU processes on files of this state folder."""
    running = {pid: _words(pid) for pid in os.listdir("/proc") if pid.isdigit()}
    return {
        pid
        for pid, words in running.items()
        if words and os.path.basename(words[0]).startswith("qemu-system") and any(f"{state}/" in word for word in words)
    }


def _words(pid: str) -> list[str]:
    """The command line of a process."""
    return _read(f"{pid}/cmdline").split("\0")[:-1]


def _read(path: str) -> str:
    """A file, by default of /proc; nothing if what it describes is gone or not ours to read."""
    try:
        with open(os.path.join("/proc", path), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
