"""Mounts and the root of the file system: mount(2), umount2(2), pivot_root(2), openat2(2).

Layer: linux.
"""

from __future__ import annotations

import os

from . import _libc
from ._libc import check

# Flags of mount(2), by their kernel names (linux/mount.h).
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_DETACH = 2

# How openat2(2) may walk a path.
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Attach a file system, or change a mount: mount(2). `data` is the file system's own option string."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), fstype.encode() or None, flags, os.fsencode(data) or None
    )
    check(result, target)


def umount(target: str, flags: int = 0) -> None:
    """Detach a mount: umount2(2)."""
    check(_libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root of this mount namespace, and mount the old one on `put_old`: pivot_root(2)."""
    check(_libc.syscall(_libc.SYS_pivot_root, os.fsencode(new_root), os.fsencode(put_old), None, None, None), new_root)


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open `path` under the descriptor `directory`, which by default is the root for every `..` and link on the way.

    The new descriptor is close-on-exec. With RESOLVE_IN_ROOT no symbolic link planted inside can lead outside:
    openat2(2).
    """
    how = _libc.OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    size = _libc.sizeof(how)
    return check(_libc.syscall(_libc.SYS_openat2, directory, encoded, _libc.addressof(how), size, None), path)
