"""Processes and namespaces: clone3(2), unshare(2), setns(2), pidfds, prctl(2), close_range(2).

Layer: linux.
"""

from __future__ import annotations

import os

from . import _libc
from ._libc import byref, check

# Namespaces, as flags of clone3(2), unshare(2) and setns(2) (linux/sched.h).
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

SIGCHLD = 17
SIGKILL = 9

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4


def clone3(flags: int) -> int:
    """Fork into new namespaces: 0 in the child, its process id in the parent (clone3(2)).

    The caller must have one thread only: the child is a copy of it alone, and Python isn't told of the fork.
    """
    arguments = _libc.CloneArgs(flags=flags, exit_signal=SIGCHLD)
    return check(_libc.clone3_raw(_libc.SYS_clone3, byref(arguments), _libc.sizeof(arguments)))


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` names for new ones: unshare(2)."""
    check(_libc.unshare(flags))


def setns(descriptor: int, flags: int = 0) -> None:
    """Enter the namespace of a /proc/PID/ns file, or those of a pidfd that `flags` names: setns(2)."""
    check(_libc.setns(descriptor, flags))


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace: sethostname(2)."""
    encoded = os.fsencode(name)
    check(_libc.sethostname(encoded, len(encoded)), name)


def prctl(operation: int, argument: int = 0, more: int = 0) -> int:
    """Change an attribute of the calling thread: prctl(2)."""
    return check(_libc.prctl(operation, argument, more, 0, 0))


def set_process_name(name: str) -> None:
    """Set the name that ps and top show for this process, 15 bytes at most (PR_SET_NAME)."""
    holder = _libc.string_buffer(name.encode()[:15], 16)
    prctl(PR_SET_NAME, _libc.addressof(holder))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies: PR_SET_PDEATHSIG, undone by a change of credentials."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signal the very process that `pidfd` stands for, never another with a reused id: pidfd_send_signal(2)."""
    check(_libc.syscall(_libc.SYS_pidfd_send_signal, pidfd, number, None, None, None))


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """A duplicate of another process's file descriptor, close-on-exec: pidfd_getfd(2)."""
    return check(_libc.syscall(_libc.SYS_pidfd_getfd, pidfd, descriptor, None, None, None))


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close the descriptors from `first` to `last`, or with CLOSE_RANGE_CLOEXEC mark them: close_range(2)."""
    check(_libc.syscall(_libc.SYS_close_range, first, last, flags, None, None))


def birth_of(pid: int, proc: str = "/proc") -> int:
    """When a process started, in clock ticks since boot, or 0 if there is none: with the pid, it is unmistakable.

    A zombie counts as gone. Source: fields 3 and 22 of /proc/PID/stat, proc(5).
    """
    try:
        descriptor = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return 0
    finally:
        os.close(descriptor)
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
