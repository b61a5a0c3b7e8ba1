"""What of /proc and /sys a container may not read, and what it may not write.

Layer: rootfs.

/proc and /sys tell about the whole machine, not about the container: some of it is secret (kernel memory, keys), some
of it is a lever (sysctls). A file is masked by the host's /dev/null, a folder by an empty read-only tmpfs.

Source: config-linux.md#masked-paths of the OCI runtime specification; the lists are in runtime/spec.py.
"""

from __future__ import annotations

import os
import stat

from .. import linux
from ..step import CHILD, Site, Step, quote
from .mounts import open_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class MaskPaths(Step):
    """Hide files and folders; those that this kernel doesn't have are passed over."""

    paths: tuple[str, ...]
    root: str

    side = CHILD
    manual = "mount(8), proc(5)"

    def describe(self) -> str:
        paths = " ".join(quote(self.root + path) for path in self.paths)
        return (
            f"for path in {paths}; do\n"
            '    if [ -d "$path" ]; then mount -t tmpfs -o ro tmpfs "$path"\n'
            '    elif [ -e "$path" ]; then mount --bind /dev/null "$path"; fi\n'
            "done"
        )

    def execute(self, site: Site) -> None:
        for _, descriptor in _present(site, self.paths):
            here = f"/proc/self/fd/{descriptor}"
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                linux.mount("tmpfs", here, "tmpfs", linux.MS_RDONLY)
            else:
                linux.mount("/dev/null", here, "", linux.MS_BIND)


class ReadOnlyPaths(Step):
    """Make files and folders unwritable: each is mounted onto itself, then that mount is made read-only."""

    paths: tuple[str, ...]
    root: str

    side = CHILD
    manual = "mount(8)"

    def describe(self) -> str:
        paths = " ".join(quote(self.root + path) for path in self.paths)
        return (
            f"for path in {paths}; do\n"
            '    [ -e "$path" ] && mount --bind "$path" "$path" && '
            'mount -o remount,bind,ro,nosuid,nodev,noexec "$path"\n'
            "done"
        )

    def execute(self, site: Site) -> None:
        for path, descriptor in _present(site, self.paths):
            here = f"/proc/self/fd/{descriptor}"
            linux.mount(here, here, "", linux.MS_BIND | linux.MS_REC)
            self._remount(site, path)

    def _remount(self, site: Site, path: str) -> None:
        """Opened anew, since the old descriptor lies below the new mount. /proc has these flags; they must stay."""
        descriptor = open_inside(site.root, path)
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY
        try:
            linux.mount("", f"/proc/self/fd/{descriptor}", "", flags | linux.MS_REMOUNT | linux.MS_BIND)
        finally:
            os.close(descriptor)


def _present(site: Site, paths: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Those of the paths that this kernel has, each with a descriptor that is open for as long as it is looked at."""
    for path in paths:
        try:
            descriptor = open_inside(site.root, path)
        except FileNotFoundError:
            continue
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
