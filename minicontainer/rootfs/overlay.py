"""The union of an image's layers with a folder for the container's own changes.

Layer: rootfs.

    merged  = what the container sees
    upper   = what it has changed: the only place that is written to
    work    = scratch space of overlayfs, on the same file system as upper
    lowers  = the image's layers, topmost first, shared by all containers and never written

Source: Documentation/filesystems/overlayfs.rst of the kernel.
"""

from __future__ import annotations

import os

from .. import linux
from ..step import CHILD, Site, Step, quote

_PAGE = 4096


class MountOverlay(Step):
    """Mount the layers, with the container's own folder on top, as its root."""

    lowers: tuple[str, ...]
    upper: str
    work: str
    merged: str
    in_user_namespace: bool = False

    side = CHILD
    manual = "mount(8), overlayfs in the kernel's documentation"

    def options(self) -> str:
        """The option string; without real root, whiteouts are kept in `user.` attributes (userxattr)."""
        lowers = ":".join(map(_escape, self.lowers))
        text = f"lowerdir={lowers},upperdir={_escape(self.upper)},workdir={_escape(self.work)}"
        return text + ",userxattr" if self.in_user_namespace else text

    def describe(self) -> str:
        return f"mount -t overlay -o {quote(self.options())} overlay {quote(self.merged)}"

    def execute(self, site: Site) -> None:
        options = self.options()
        if len(os.fsencode(options)) < _PAGE:
            linux.mount("overlay", self.merged, "overlay", 0, options)
        else:
            self._mount_many()
        site.root = os.open(self.merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _mount_many(self) -> None:
        """mount(2) takes one page of options, some forty layers by name. By descriptor they are as short as can be."""
        descriptors = [os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for lower in self.lowers]
        try:
            short = self.replace(lowers=tuple(f"/proc/self/fd/{descriptor}" for descriptor in descriptors))
            linux.mount("overlay", self.merged, "overlay", 0, short.options())
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _escape(path: str) -> str:
    """Commas end an option and colons a layer, unless a backslash is before them."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
