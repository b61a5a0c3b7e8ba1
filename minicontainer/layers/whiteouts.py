"""How a layer says that something of the layers below is gone: two ways, and the road between them.

Layer: layers (imports nothing of the package).

    in a tar (image-spec layer.md, Whiteouts)     in a folder for overlay (kernel, filesystems/overlayfs.rst)
    an empty file `.wh.NAME`                      NAME, a character device 0:0
    an empty file `.wh..wh..opq` in a folder      the folder has the xattr trusted.overlay.opaque = y,
                                                  or user.overlay.opaque where the mount is a user's (userxattr)

Other names that begin with `.wh..wh.` were AUFS's own bookkeeping; a reader passes over them.
"""

from __future__ import annotations

import os
import stat

PREFIX = b".wh."
RESERVED = b".wh..wh."
OPAQUE = b".wh..wh..opq"
_XATTRS = ("trusted.overlay.opaque", "user.overlay.opaque")


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlay's mark for a name that is gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def make_whiteout(name: bytes, folder: int) -> None:
    """Mark `name` as gone in the folder with this descriptor. Needs no privilege since Linux 5.8 (mknod(2))."""
    os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=folder)


def is_opaque(path: bytes) -> bool:
    """Whether this folder hides what the layers below have in it."""
    present = os.listxattr(path, follow_symlinks=False)
    return any(name in present and os.getxattr(path, name, follow_symlinks=False) == b"y" for name in _XATTRS)


def make_opaque(folder: int) -> None:
    """Mark the folder with this descriptor as hiding what is below: root's way, or else a user's."""
    try:
        os.setxattr(folder, _XATTRS[0], b"y")
    except PermissionError:
        os.setxattr(folder, _XATTRS[1], b"y")
