"""Folders for work in progress, which the next one to come cleans up if their owner was killed.

Layer: layers (imports errors, trees).

    PARENT/.tmp-XXXXXXXX/     locked with flock(2) as long as the process that made it, or a child of it, lives

What is finished leaves by rename(2), so it must lie on the same file system: work beside the target. The lock, unlike
a process ID in the name, can't be mistaken for another's, and the kernel gives it up with the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile

from ..errors import HostError
from ..trees import remove_tree

_PREFIX = ".tmp-"


class Scratch:
    """A private folder for a `with` block: `path` is its name, `fd` its lock (a child that inherits it shares it).

    Removed at the end, with all that is still in it. Entering also removes what dead processes left in `parent`. A disk
    that gets full in the block is a HostError.
    """

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.path = ""
        self.fd = -1

    def __enter__(self) -> Scratch:
        for name in os.listdir(self.parent):
            if name.startswith(_PREFIX):
                _clear_stale(os.path.join(self.parent, name))
        while self.fd < 0:  # a second time if another took the new folder, not locked yet, for a dead one's
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=self.parent)
            self.fd = _claim(self.path)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with contextlib.suppress(OSError):  # as below
            remove_tree(self.path)
        os.close(self.fd)
        self.fd = -1
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, or set another state folder with --root or MINICONTAINER_ROOT"
            raise HostError(f"no space left on the disk that holds {self.parent}", hint) from None


def _claim(path: str) -> int:
    """Lock the folder at `path` and return its descriptor, or -1 where it isn't there or another has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.isdir(path):
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return -1


def _clear_stale(path: str) -> None:
    with contextlib.suppress(OSError):  # what can't be removed now stays for the next time
        fd = _claim(path)
        if fd >= 0:
            try:
                remove_tree(path)
            finally:
                os.close(fd)
