"""Where this machine keeps its control groups: cgroup v1, v2, or both at once.

Layer: isolation (imports paths and values).

    v1       /sys/fs/cgroup/memory/            a tree for each controller (or a few of them: cpu,cpuacct)
             /sys/fs/cgroup/pids/ …
    v2       /sys/fs/cgroup/                   one tree, all controllers in it: cgroup.controllers names them
    hybrid   /sys/fs/cgroup/memory/ …          v1's trees, and v2's beside them, which has the controllers
             /sys/fs/cgroup/unified/           that no v1 tree has taken: few, or none

A controller lives in one tree at a time, so the question is never "which version?" but "where is memory?". Our groups
are TREE/minicontainer/<container id>, in each tree that a container needs.

Sources: cgroups(7); the kernel's admin-guide/cgroup-v2.rst; proc_pid_mountinfo(5). Rules: `detect` is on the road of
every start, so it reads three small files and asks for what it needs once; it changes nothing.
"""

from __future__ import annotations

import os

from ...paths import Paths
from ...values import Value

PARENT = "minicontainer"
"""The group that holds the groups of all containers, in each tree."""

SUPERVISOR = "supervisor"
"""In PARENT: where the processes of a crowded v2 group go, so that it may hand controllers down."""

LIMITING = ("memory", "pids", "cpu", "cpuset")
"""The controllers that limits of a container need."""


class Hierarchy(Value):
    """One mounted tree of groups."""

    mount: str
    """The mount point, such as /sys/fs/cgroup/memory."""
    version: int
    """1 or 2."""
    controllers: tuple[str, ...] = ()
    """What this tree can limit or count, such as ("cpu", "cpuacct")."""
    base: str = ""
    """Below the mount point: the group that was delegated to this user. Root owns the whole tree: ""."""
    writable: bool = True
    """Whether this process may make groups here."""
    crowded: bool = False
    """v2: the group at `base` holds processes itself, and is no real root: it can't hand controllers down yet."""

    @property
    def root(self) -> str:
        """The directory in which our groups are made."""
        return self.mount + self.base

    @property
    def parent(self) -> str:
        """The directory that holds the groups of all containers."""
        return f"{self.mount}{self.base}/{PARENT}"

    def group(self, container_id: str) -> str:
        """The directory of one container's group in this tree."""
        return f"{self.mount}{self.base}/{PARENT}/{container_id}"


class Hierarchies(Value):
    """All trees of this machine. `version` is "v1", "v2", "hybrid", or "none" where no tree is mounted."""

    version: str
    trees: tuple[Hierarchy, ...] = ()

    def of(self, controller: str) -> Hierarchy | None:
        """The tree where `controller` lives, or None: not in this kernel, or not mounted."""
        for tree in self.trees:
            if controller in tree.controllers:
                return tree
        return None

    @property
    def unified(self) -> Hierarchy | None:
        """The v2 tree, if it is worth joining: the only one, or the home of a controller that limits containers.

        On most hybrid machines it has none of them. A container doesn't join it there: each tree costs a start 0.1 ms,
        and what it would give (cgroup.kill, cgroup.freeze) v1's freezer gives too.
        """
        for tree in self.trees:
            if tree.version == 2 and (self.version == "v2" or any(name in tree.controllers for name in LIMITING)):
                return tree
        return None

    def used(self, cpuset: bool = False) -> tuple[Hierarchy, ...]:
        """The trees that a container joins, each once: to limit it, to count what it uses, and to kill it as a whole.

        v1's cpuset only where `cpuset` asks for it, since a group there needs more writes before it can be joined.
        """
        unified = self.unified
        names = ("memory", "pids", "cpu") + (("cpuset",) if cpuset else ())
        if unified is None:
            names += ("cpuacct", "freezer")  # v2 counts CPU time and freezes without a controller for it
        chosen = [] if unified is None else [unified]
        for name in names:
            tree = self.of(name)
            if tree is not None and tree not in chosen:
                chosen.append(tree)
        return tuple(chosen)


def detect(paths: Paths) -> Hierarchies:
    """Find the trees at or below `paths.cgroup`, as this process may use them. Never fails: "none" is an answer."""
    try:
        lines = _read(f"{paths.proc}/self/mountinfo").split(b"\n")
        own = _own_groups(_read(f"{paths.proc}/self/cgroup"))
    except OSError:
        return Hierarchies("none")
    trees: dict[str, Hierarchy] = {}
    for line in lines:
        if b" - cgroup" in line:  # of hundreds of mounts on a busy host, look into these only
            tree = _tree(os.fsdecode(line), paths.cgroup, own)
            if tree is not None:
                trees[tree.mount] = tree
    found = tuple(trees.values())
    first = any(tree.version == 1 and tree.controllers for tree in found)  # a named tree (name=systemd) limits nothing
    second = any(tree.version == 2 for tree in found)
    version = "hybrid" if first and second else "v2" if second else "v1" if first else "none"
    return Hierarchies(version, found)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _own_groups(text: bytes) -> dict[str, str]:
    """This process's group by controller, "" standing for v2's tree; lines are `4:cpu,cpuacct:/path`, `0::/path`."""
    groups = {}
    for line in os.fsdecode(text).splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            groups[name] = path
    return groups


def _tree(line: str, folder: str, own: dict[str, str]) -> Hierarchy | None:
    """The tree that one line of mountinfo mounts, or None if it isn't in `folder`.

    36 35 0:31 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
    id parent dev root-of-the-mount mount-point options … - type source options-of-the-tree
    """
    left, _, right = line.partition(" - ")
    visible, mount = left.split(" ", 5)[3:5]
    if "\\" in mount:  # a space, tab, newline or backslash, in octal
        mount = mount.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    if mount != folder and not mount.startswith(folder + "/"):
        return None
    kind, _, options = right.split(" ", 2)
    if kind == "cgroup2":
        return _unified_tree(mount, visible, own.get("", "/"))
    names = tuple(option for option in options.split(",") if option in own and "=" not in option)
    return Hierarchy(mount, 1, names, writable=os.access(mount, os.W_OK))


def _unified_tree(mount: str, visible: str, own: str) -> Hierarchy:
    """The v2 tree at `mount`, whose top is the group `visible`, for a process in the group `own`.

    A user without privilege may have had a group delegated (systemd-run --user --scope -p Delegate=yes): then that is
    where ours are made. Its processes may have been moved into our own SUPERVISOR before.
    """
    base, writable = "", os.access(mount, os.W_OK)
    if not writable:
        inside = own.removeprefix(visible.rstrip("/")).removesuffix(f"/{PARENT}/{SUPERVISOR}").rstrip("/")
        if inside.startswith("/") and not inside.startswith("/..") and os.access(mount + inside, os.W_OK):
            base, writable = inside, True
    root = mount + base
    try:
        controllers = tuple(_read(f"{root}/cgroup.controllers").decode().split())
        # Only the kernel's real root has no cgroup.type, and only it may hold processes and hand controllers down.
        crowded = os.path.exists(f"{root}/cgroup.type") and bool(_read(f"{root}/cgroup.procs"))
    except OSError:
        return Hierarchy(mount, 2, writable=False)
    return Hierarchy(mount, 2, controllers, base, writable, crowded)
