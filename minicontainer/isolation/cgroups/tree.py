"""A group and the groups inside it, as a tree of directories: who is in it, kill them, take it away.

Layer: isolation (imports the standard library only).

Containers may make groups of their own inside theirs, so all that is done to a group is done to its whole tree. To kill
a tree means that none may escape by forking while its processes are being counted:

    v2, kernel 5.14 on   one write to cgroup.kill, and the kernel does it
    v1's freezer         freeze all, read the list, send SIGKILL to each, thaw: only then do they die
    other v1 trees       send SIGKILL until nobody is left

Sources: cgroups(7); the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import os
import time

PATIENCE = 2.0
"""Seconds to wait for processes to die, and for the kernel to let go of a group after that."""

_PAUSE = 0.002
_SIGKILL = 9  # signal.SIGKILL, without importing signal


def write(path: str, text: str) -> None:
    """Write `text` to a kernel's file, in one write(2). Raises OSError with the file's name."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)  # no O_CREAT: a missing file is to be seen as missing
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def read(path: str) -> str:
    """The text of a kernel's file, "" where it isn't there (any more) or has nothing to say."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode()
    except OSError as error:
        # ENODEV: the group went away while its file was open. EOPNOTSUPP: the processes of a threaded group (v2), which
        # the group that it lies in lists.
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return ""
        raise


def counter(path: str, name: str) -> int:
    """The number after `name` in a file of lines `name number`; 0 where it isn't there."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def tree(directory: str) -> list[str]:
    """`directory` and all groups in it, parents before their children; [] where it isn't there."""
    if not os.path.isdir(directory):
        return []
    found = [directory]
    for group in found:  # grows while it is walked: no recursion, however deep a container has nested its groups
        try:
            with os.scandir(group) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            pass
    return found


def processes_in(directory: str) -> list[int]:
    """The IDs of all processes in the tree, sorted, as this process's PID namespace numbers them."""
    # For those that it can't see, the kernel says 0; and kill(0, …) would hit our own process group.
    pids = {int(pid) for group in tree(directory) for pid in read(f"{group}/cgroup.procs").split()}
    return sorted(pids - {0})


def kill_tree(directory: str, patience: float = PATIENCE) -> bool:
    """Send SIGKILL to every process in the tree, and wait `patience` seconds at most. True: all of them are gone."""
    deadline = time.monotonic() + patience
    killed: set[int] = set()
    while pids := set(processes_in(directory)) - {os.getpid()}:
        if pids - killed:
            killed |= pids | _kill_once(directory)
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _kill_once(directory: str) -> set[int]:
    if os.path.exists(f"{directory}/cgroup.kill"):
        write(f"{directory}/cgroup.kill", "1")
        return set()
    _freeze(directory)
    try:
        pids = set(processes_in(directory)) - {os.getpid()}
        for pid in pids:
            try:
                os.kill(pid, _SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # gone already; or another user's, which the caller learns by waiting
        return pids
    finally:
        _thaw(directory)


def _freeze(directory: str) -> None:
    """Stop the whole tree, so that its list of processes holds still. Trees that can't freeze are left running."""
    try:
        if os.path.exists(f"{directory}/freezer.state"):
            write(f"{directory}/freezer.state", "FROZEN")
        elif os.path.exists(f"{directory}/cgroup.freeze"):  # v2 from 5.2 on, before cgroup.kill
            write(f"{directory}/cgroup.freeze", "1")
        else:
            return
    except OSError:
        return
    for _ in range(20):  # a process in the middle of a slow system call freezes later: it is killed all the same
        if read(f"{directory}/freezer.state").strip() == "FROZEN" or counter(f"{directory}/cgroup.events", "frozen"):
            return
        time.sleep(_PAUSE)


def _thaw(directory: str) -> None:
    """Let the whole tree run, also the groups in it that were frozen on their own: a frozen process can't die (v1)."""
    for group in tree(directory):
        for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            try:
                write(f"{group}/{name}", text)
            except OSError:
                pass  # no such file in this tree, or the group has just gone


def remove_tree(directory: str, patience: float = PATIENCE) -> None:
    """Remove the group and all groups in it (rmdir). Raises OSError (EBUSY) while a process still is in one of them.

    The last process of a group leaves it a moment after its parent has seen it end, so EBUSY is tried again for
    `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while groups := tree(directory):
        try:
            for group in reversed(groups):
                os.rmdir(group)
        except FileNotFoundError:
            pass  # another one removes it too
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def remove_if_empty(directory: str) -> None:
    """Remove a group which nobody uses; otherwise leave it."""
    try:
        os.rmdir(directory)
    except OSError:
        pass
