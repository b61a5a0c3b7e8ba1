"""Namespaces: what a process can see of the machine (namespaces(7)).

Layer: isolation.

The wall itself is `CloneIntoNamespaces`: one clone3(2) gives the child a new one of each kind. The steps before it
run in the parent, those after it (unless they say PARENT) in the child. The cgroup namespace comes later than the
others, since its root is the cgroup that the process is in when it is made.
"""

from __future__ import annotations

import errno
import os

from .. import linux
from ..linux import birth_of
from ..step import CHILD, PARENT, Site, Step, quote

# Names as in the specification (config-linux.md#namespaces) -> (flag, option of unshare(1), file in /proc/PID/ns)
NAMESPACES = {
    "user": (linux.CLONE_NEWUSER, "--user", "user"),
    "mount": (linux.CLONE_NEWNS, "--mount", "mnt"),
    "pid": (linux.CLONE_NEWPID, "--pid", "pid"),
    "uts": (linux.CLONE_NEWUTS, "--uts", "uts"),
    "ipc": (linux.CLONE_NEWIPC, "--ipc", "ipc"),
    "network": (linux.CLONE_NEWNET, "--net", "net"),
    "cgroup": (linux.CLONE_NEWCGROUP, "--cgroup", "cgroup"),
}


def flags_of(names: tuple[str, ...]) -> int:
    """The clone flags of namespaces given by name."""
    flags = 0
    for name in names:
        flags |= NAMESPACES[name][0]
    return flags


class CloneIntoNamespaces(Step):
    """Fork the process that becomes the container's first, into new namespaces: here the wall goes up."""

    namespaces: tuple[str, ...]

    side = PARENT
    manual = "unshare(1), clone(2), namespaces(7)"

    def describe(self) -> str:
        options = [NAMESPACES[name][1] for name in self.namespaces]
        if "user" in self.namespaces:  # what MapUsers does
            options.append("--map-root-user")
        return " ".join(["unshare --fork --kill-child", *options, "bash --norc"])

    def execute(self, site: Site) -> None:
        site.pid = linux.clone3(flags_of(self.namespaces))

    def undo(self, site: Site) -> None:
        if site.pid:
            os.kill(site.pid, linux.SIGKILL)
            os.waitpid(site.pid, 0)
            site.pid = 0


class MapUsers(Step):
    """Say which users of the host the users of the new user namespace are: rows of (inside, outside, count)."""

    uids: tuple[tuple[int, int, int], ...]
    gids: tuple[tuple[int, int, int], ...]

    side = PARENT
    manual = "user_namespaces(7)"

    def describe(self) -> str:
        return ": # unshare has done it (--map-root-user); otherwise the rows go to /proc/PID/uid_map and gid_map"

    def execute(self, site: Site) -> None:
        if os.geteuid() != 0:  # only who can't raise privileges by it may drop groups: user_namespaces(7)
            _write(f"/proc/{site.pid}/setgroups", b"deny")
        _write(f"/proc/{site.pid}/uid_map", _rows(self.uids))
        _write(f"/proc/{site.pid}/gid_map", _rows(self.gids))


def _rows(rows: tuple[tuple[int, int, int], ...]) -> bytes:
    return b"".join(b"%d %d %d\n" % row for row in rows)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


class UnshareCgroupNamespace(Step):
    """Make the cgroup that this process is in the root of all that it sees of cgroups."""

    side = CHILD
    manual = "cgroup_namespaces(7)"

    def describe(self) -> str:
        return "exec unshare --cgroup bash --norc"

    def execute(self, site: Site) -> None:
        linux.unshare(linux.CLONE_NEWCGROUP)


class SetHostname(Step):
    """Give the container a host name of its own."""

    hostname: str

    side = CHILD
    manual = "hostname(1), uts_namespaces(7)"

    def describe(self) -> str:
        return f"hostname {quote(self.hostname)}"

    def execute(self, site: Site) -> None:
        linux.sethostname(self.hostname)


class BringUpLoopback(Step):
    """Set up 127.0.0.1: a new network namespace has a loopback interface, but it is down."""

    side = CHILD
    manual = "ip-link(8), network_namespaces(7)"

    def describe(self) -> str:
        return "ip link set lo up"

    def execute(self, site: Site) -> None:
        linux.bring_up("lo")


class EnterPidNamespace(Step):
    """Have the next child be born in the PID namespace of a running container: one can't move there oneself.

    `born` is the start time of that process (state.py): a process id alone may have been given to another since.
    """

    pid: int
    born: int
    with_user: bool = False
    """Whether its user namespace comes first: who isn't root has no right to the others without."""

    side = PARENT
    manual = "nsenter(1), pid_namespaces(7)"

    def describe(self) -> str:
        user = " --user --preserve-credentials" if self.with_user else ""
        return f"nsenter --target {self.pid}{user} --pid bash --norc"

    def execute(self, site: Site) -> None:
        site.target = os.pidfd_open(self.pid)
        if birth_of(self.pid) != self.born:
            raise ProcessLookupError(errno.ESRCH, "the container's first process has ended")
        linux.setns(site.target, linux.CLONE_NEWPID | (linux.CLONE_NEWUSER if self.with_user else 0))


class EnterNamespaces(Step):
    """Enter the other namespaces of a running container, and with its mounts its root."""

    pid: int
    namespaces: tuple[str, ...]

    side = CHILD
    manual = "nsenter(1), setns(2)"

    def describe(self) -> str:
        options = " ".join(NAMESPACES[name][1] for name in self.namespaces)
        return f"exec nsenter --target {self.pid} {options} --root --wd sh"

    def execute(self, site: Site) -> None:
        linux.setns(site.target, flags_of(self.namespaces))
