"""The container's root file system: from read-only layers to a root that has everything a process expects.

Layer: rootfs (siblings: isolation).

    overlay   layers + upper + work = merged (overlayfs)
    mounts    /proc, /dev, /sys …: each mount of the specification, resolved inside the root
    devices   the six device files and the links of /dev
    masks     what of /proc and /sys is hidden or read-only
    pivot     the new root takes the old one's place, and the old one goes
    users     names of users and groups, looked up inside the image

Every step here runs on the child's side, in a mount namespace of its own: whatever happens, the kernel takes the mounts
away with the container's last process, and the host never sees one.
"""

from __future__ import annotations

from .devices import MakeDevices
from .masks import MaskPaths, ReadOnlyPaths
from .mounts import Mount, MountCgroupsV1, open_inside
from .overlay import MountOverlay
from .pivot import MakeMountsPrivate, MakeWorkingDirectory, PivotRoot, RemountRootReadOnly
from .users import Account, look_up_account

__all__ = [
    "Account",
    "MakeDevices",
    "MakeMountsPrivate",
    "MakeWorkingDirectory",
    "MaskPaths",
    "Mount",
    "MountCgroupsV1",
    "MountOverlay",
    "PivotRoot",
    "ReadOnlyPaths",
    "RemountRootReadOnly",
    "look_up_account",
    "open_inside",
]
