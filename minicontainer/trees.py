"""Removing a folder with all that is in it.

Layer: bottom (imports nothing of the package).
"""

from __future__ import annotations

import os
import stat


def remove_tree(path: str) -> None:
    """Remove the folder at `path` with all that is in it, however deep, and whatever the modes of its folders.

    Follows no link and enters no mount: there it raises OSError. A missing folder is fine, and so is one of which
    another process removes a part at the same time: of two that tidy up neither must fail.
    """
    try:
        pending, device = [path], os.lstat(path).st_dev
    except FileNotFoundError:
        return
    while pending:
        try:
            below = _empty(pending[-1], device)
            if not below:
                os.rmdir(pending[-1])
        except FileNotFoundError:
            below = []
        if below:
            pending += below
        else:
            pending.pop()


def _empty(folder: str, device: int) -> list[str]:
    """Remove the files in a folder; the folders in it come back."""
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
                continue
            try:
                os.unlink(entry.path)
            except FileNotFoundError:
                pass
    return below
