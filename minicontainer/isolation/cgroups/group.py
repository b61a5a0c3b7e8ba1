"""The groups of one container while it lives, and after: what it has used, who is in it, kill it, take it away.

Layer: isolation (imports values).

    cgroup = cgroup_of(detect(paths), container_id)
    cgroup.memory_usage()   cgroup.oom_kills()   cgroup.processes()   cgroup.kill_all()   cgroup.remove()

The kernel is the truth: nothing is remembered here, each call asks. A container that was started without groups (by a
user who may not make any) has none of them: it counts nothing, and is not `exists()`.
"""

from __future__ import annotations

import os

from ...values import Value
from .hierarchies import SUPERVISOR, Hierarchies, Hierarchy
from .tree import PATIENCE, counter, kill_tree, processes_in, read, remove_if_empty, remove_tree, tree


class Cgroup(Value):
    """One container's groups: the directories in which they are, "" where there is no such tree."""

    directories: tuple[str, ...]
    """All that the container may be in."""
    unified: str = ""
    """The v2 one. A process can be born in it: clone3(2) with CLONE_INTO_CGROUP."""
    memory: str = ""
    cpuacct: str = ""
    freezer: str = ""

    @property
    def main(self) -> str:
        """The directory that stands for all of them when processes are listed and killed; "" if there is none."""
        return self.unified or self.freezer or "".join(self.directories[:1])

    def exists(self) -> bool:
        """Whether any of the groups is there."""
        return any(os.path.isdir(directory) for directory in self.directories)

    def oom_kills(self) -> int:
        """How many processes the kernel has killed because the container's memory ran out, nested groups included."""
        if self.memory and self.memory == self.unified:
            return counter(f"{self.memory}/memory.events", "oom_kill")
        return sum(counter(f"{group}/memory.oom_control", "oom_kill") for group in tree(self.memory))

    def memory_usage(self) -> int:
        """Bytes that the container uses now: its processes' memory, the page cache, and the kernel's on its account."""
        name = "memory.current" if self.memory == self.unified else "memory.usage_in_bytes"
        return int(read(f"{self.memory}/{name}") or 0)

    def cpu_usage(self) -> int:
        """Nanoseconds of CPU time that the container has used so far, on all CPUs together."""
        if self.unified:
            return counter(f"{self.unified}/cpu.stat", "usage_usec") * 1000
        return int(read(f"{self.cpuacct}/cpuacct.usage") or 0)

    def processes(self) -> list[int]:
        """The IDs of the container's processes, as this process's PID namespace numbers them, sorted."""
        return processes_in(self.main) if self.main else []

    def kill_all(self, patience: float = PATIENCE) -> bool:
        """Kill every process of the container, also a frozen one. False: some outlived `patience` seconds.

        Works from the group's own list, so a process that left the container's session, or its first process, is found.
        """
        return kill_tree(self.main, patience) if self.main else True

    def remove(self, patience: float = PATIENCE) -> None:
        """Remove the groups, those that the container made inside them, and the parent group once it is empty.

        Groups that are gone already are no error. Raises OSError (EBUSY) if a process is left after `patience` seconds.
        """
        for directory in self.directories:
            remove_tree(directory, patience)
            parent = os.path.dirname(directory)
            if directory == self.unified:
                remove_if_empty(f"{parent}/{SUPERVISOR}")
            remove_if_empty(parent)


def cgroup_of(hierarchies: Hierarchies, container_id: str) -> Cgroup:
    """Where the groups of this container are, made or not."""
    return Cgroup(
        directories=tuple(place.group(container_id) for place in hierarchies.used(cpuset=True) if place.writable),
        unified=_directory(hierarchies.unified, container_id),
        memory=_directory(hierarchies.of("memory"), container_id),
        cpuacct=_directory(hierarchies.of("cpuacct"), container_id),
        freezer=_directory(hierarchies.of("freezer"), container_id),
    )


def _directory(place: Hierarchy | None, container_id: str) -> str:
    return place.group(container_id) if place is not None else ""
