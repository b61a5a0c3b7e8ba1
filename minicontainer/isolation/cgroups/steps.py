"""The steps that make a control group, set its limits, and put a process into it.

Layer: isolation (imports errors and step).

    CreateCgroup          mkdir -p /sys/fs/cgroup/memory/minicontainer/ID
    VacateCgroup          v2, in a container or a delegated group: its processes move one level down
    EnableControllers     v2: echo "+memory +pids" > …/cgroup.subtree_control
    InheritCpuset         v1: cat …/cpuset.cpus > …/minicontainer/cpuset.cpus
    SetLimit              echo 64M > …/memory.max
    JoinCgroup            echo 0 > …/cgroup.procs            on the container's side

Rules: the container's own group is made first. While it is there, nobody who removes an empty `minicontainer` group can
remove the one it lies in, so the steps after it need no lock against other starts and removals.
"""

from __future__ import annotations

import errno
import os

from ...errors import HostError
from ...step import CHILD, Site, Step, quote
from .tree import kill_tree, read, remove_if_empty, remove_tree, write

_ATTEMPTS = 10

_LACKING = (
    ("memory.memsw.", "swap limit capabilities", "cgroup_enable=memory swapaccount=1"),
    ("memory.swap.", "swap limit capabilities", "swapaccount=1"),
    ("memory.", "memory limit capabilities", "cgroup_enable=memory"),
    ("pids.", "PIDs limit capabilities", "cgroup_enable=pids"),
    ("cpu.shares", "CPU shares", ""),
    ("cpu.weight", "CPU shares", ""),
    ("cpu.", "CPU CFS scheduler", ""),
    ("cpuset.", "cpuset", ""),
)
"""The start of a kernel file's name, what a kernel without it lacks, and the boot parameters that may bring it."""


def lacking(file: str) -> HostError:
    """The error, in Docker's words, for a kernel that hasn't got the limit which `file` (a base name) sets."""
    for start, what, parameters in _LACKING:
        if file.startswith(start):
            hint = "leave this limit out, or run a kernel that has it; `minicontainer doctor` shows what this one can"
            if parameters:
                hint = (
                    f"leave this limit out, or add `{parameters}` to GRUB_CMDLINE_LINUX in /etc/default/grub, "
                    "then run: sudo update-grub && sudo reboot"
                )
            return HostError(f"Your kernel does not support {what} or the cgroup is not mounted", hint)
    return HostError(f"Your kernel has no control group file {file}")


class CreateCgroup(Step):
    """Make a group, and the one it lies in. A directory is all it takes: the kernel fills it with files."""

    path: str
    manual = "cgroups(7)"

    def describe(self) -> str:
        return f"mkdir -p {quote(self.path)}"

    def execute(self, site: Site) -> None:
        for _ in range(_ATTEMPTS):
            try:
                return os.mkdir(self.path, 0o755)
            except FileExistsError:
                # What a start that was killed has left: its limits must not stay. Whoever lives in it keeps it (EBUSY).
                remove_tree(self.path, patience=0)
            except FileNotFoundError:
                try:
                    os.mkdir(os.path.dirname(self.path), 0o755)
                except FileExistsError:
                    pass  # made by another start at the same time
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.path)

    def undo(self, site: Site) -> None:
        kill_tree(self.path)
        remove_tree(self.path)
        remove_if_empty(os.path.dirname(self.path))


class VacateCgroup(Step):
    """Move the processes of the group `source` down into `target`. Not undone, since nothing changes for them.

    cgroup v2 lets a group either hold processes or hand controllers down to groups inside it ("no internal processes"),
    the machine's real root excepted. The top group of a container, or the one that systemd delegates, holds processes.
    """

    source: str
    target: str
    manual = "cgroups(7)"

    def describe(self) -> str:
        source, target = quote(f"{self.source}/cgroup.procs"), quote(f"{self.target}/cgroup.procs")
        return (
            f"mkdir -p {quote(self.target)}\n"
            f"for pid in $(cat {source}); do echo $pid > {target} 2>/dev/null || true; done"
        )

    def execute(self, site: Site) -> None:
        try:
            os.mkdir(self.target, 0o755)
        except FileExistsError:
            pass
        for _ in range(_ATTEMPTS):  # again, for those that were forked meanwhile
            pids = [pid for pid in read(f"{self.source}/cgroup.procs").split() if pid != "0"]
            if not pids:
                return
            for pid in pids:
                try:
                    write(f"{self.target}/cgroup.procs", pid)
                except ProcessLookupError:
                    pass  # it has ended


class EnableControllers(Step):
    """Let the groups directly inside `directory` have these controllers (v2). Those that they have already stay."""

    directory: str
    controllers: tuple[str, ...]
    manual = "cgroups(7)"

    @property
    def file(self) -> str:
        return f"{self.directory}/cgroup.subtree_control"

    def describe(self) -> str:
        return f"echo {quote(self._wish(self.controllers))} > {quote(self.file)}"

    def execute(self, site: Site) -> None:
        try:
            write(self.file, self._wish(self.controllers))
        except OSError as error:
            # One refused controller (cpu, while realtime processes run) must not cost the others. A limit that needs
            # the refused one fails at its own step, and says so.
            if not any(self._enable(name) for name in self.controllers):
                raise error

    def _wish(self, names: tuple[str, ...]) -> str:
        return " ".join(f"+{name}" for name in names)

    def _enable(self, name: str) -> bool:
        try:
            write(self.file, f"+{name}")
        except OSError:
            return False
        return True


class InheritCpuset(Step):
    """Give a group the CPUs and memory nodes of the one it lies in (v1): with none it can't be joined."""

    path: str
    manual = "cpuset(7)"

    def describe(self) -> str:
        above = os.path.dirname(self.path)
        return "\n".join(
            f"cat {quote(f'{above}/{name}')} > {quote(f'{self.path}/{name}')}"
            for name in ("cpuset.cpus", "cpuset.mems")
        )

    def execute(self, site: Site) -> None:
        above = os.path.dirname(self.path)
        for name in ("cpuset.cpus", "cpuset.mems"):
            write(f"{self.path}/{name}", read(f"{above}/{name}").strip())


class SetLimit(Step):
    """Write a limit to a file of the group. `required`: whether a kernel that hasn't got the file is an error."""

    file: str
    value: str
    required: bool = True
    manual = "cgroups(7)"

    def describe(self) -> str:
        return f"echo {quote(self.value)} > {quote(self.file)}" + ("" if self.required else " || true")

    def execute(self, site: Site) -> None:
        try:
            write(self.file, self.value)
        except FileNotFoundError:
            if self.required:
                raise lacking(os.path.basename(self.file)) from None


class JoinCgroup(Step):
    """Enter the groups: 0 stands for the process that writes it. What it starts from then on is in them too.

    Before the mount namespace changes, since the files are the host's. Before the cgroup namespace is made, since that
    takes the group which it is made in for its root.

    In v1's trees the file is `tasks`, which moves one thread (and a container's first process has only one): the kernel
    does that at once, where a move through cgroup.procs waits for all CPUs, 12 ms in one start of ten.
    """

    files: tuple[str, ...]
    side = CHILD
    manual = "cgroups(7)"

    def describe(self) -> str:
        return "\n".join(f"echo 0 > {quote(file)}" for file in self.files)

    def execute(self, site: Site) -> None:
        for file in self.files:
            write(file, "0")
