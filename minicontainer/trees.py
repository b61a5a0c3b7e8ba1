"""Removing a folder with all that is in it.

Layer: bottom (imports nothing of the package).
"""

from __future__ import annotations

import os
import stat


def remove_tree(path: str) -> None:
    """Remove the folder at `path` with all that is in it, however deep, and whatever the modes of its folders.

    Follows no link and enters no mount: there it raises OSError. A missing folder is fine.
    """
    pending = [path] if os.path.lexists(path) else []
    device = os.lstat(path).st_dev if pending else 0
    while pending:
        folder = pending[-1]
        status = os.lstat(folder)
        if status.st_dev != device:
            raise OSError(f"{folder} is a mount point")
        if status.st_mode & 0o700 != 0o700:
            os.chmod(folder, stat.S_IMODE(status.st_mode) | 0o700)
        below = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                else:
                    os.unlink(entry.path)
        pending += below
        if not below:
            os.rmdir(folder)
            pending.pop()
