"""The new root takes the old one's place.

Layer: rootfs.

chroot(2) changes only where this process's paths begin, and a process with root's power walks back out. pivot_root(2)
swaps the root mount of the whole namespace, and once the old root is unmounted there is nothing left to walk to.
"""

from __future__ import annotations

import os

from .. import linux
from ..step import CHILD, Site, Step, quote
from .mounts import open_inside

HOST_TOOL = "$host"
"""In described commands: runs a program of the old root, from which the shell hasn't moved away yet (see plan.py)."""


class MakeMountsPrivate(Step):
    """Stop mounts made from here on from spreading to the host."""

    side = CHILD
    manual = "mount_namespaces(7)"

    def describe(self) -> str:
        return "mount --make-rprivate /"

    def execute(self, site: Site) -> None:
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)


class MakeWorkingDirectory(Step):
    """Make the process's working directory, where the image doesn't have it."""

    path: str
    root: str

    side = CHILD
    manual = "mkdir(1)"

    def describe(self) -> str:
        return f"mkdir -p {quote(self.root + self.path)}"

    def execute(self, site: Site) -> None:
        os.close(open_inside(site.root, self.path, make="dir"))


class RemountRootReadOnly(Step):
    """Make the container's root read-only (`--read-only`); what is mounted inside it keeps its own mode."""

    root: str

    side = CHILD
    manual = "mount(8)"

    def describe(self) -> str:
        return f"mount -o remount,ro,bind {quote(self.root)}"

    def execute(self, site: Site) -> None:
        linux.mount("", self.root, "", linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)


class PivotRoot(Step):
    """Make the container's root the root of its mount namespace, and let the host's go.

    With both arguments ".", the old root comes to lie on top of the new one, needs no folder in the image, and is
    unmounted from there (pivot_root(2), NOTES).
    """

    root: str

    side = CHILD
    manual = "pivot_root(8), pivot_root(2)"

    def describe(self) -> str:
        # In a shell, the old root is still reached as `/..`: standing there, its own busybox unmounts it.
        return f"cd {quote(self.root)} && pivot_root . . && cd -P /.. && bin/busybox umount -l ."

    def execute(self, site: Site) -> None:
        os.fchdir(site.root)
        linux.pivot_root(".", ".")
        linux.umount(".", linux.MNT_DETACH)
        os.chdir("/")
        os.close(site.root)
        site.root = -1
