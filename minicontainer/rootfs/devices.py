"""The device files that every program counts on, and the links of /dev.

Layer: rootfs. Source: config-linux.md#default-devices of the OCI runtime specification.
"""

from __future__ import annotations

import os
import stat

from .. import linux
from ..step import CHILD, Site, Step, quote
from .mounts import open_inside

# name -> (major, minor), see devices.txt in the kernel's documentation
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}


class MakeDevices(Step):
    """Fill /dev: by mknod(2) as root, by bind mounts of the host's own where a user namespace forbids mknod."""

    root: str
    in_user_namespace: bool = False

    side = CHILD
    manual = "mknod(1), null(4), random(4)"

    def describe(self) -> str:
        folder = quote(f"{self.root}/dev")
        if self.in_user_namespace:
            make = [f"touch {folder}/{name} && mount --bind /dev/{name} {folder}/{name}" for name in DEVICES]
        else:
            make = [f"mknod -m 666 {folder}/{name} c {major} {minor}" for name, (major, minor) in DEVICES.items()]
        return "\n".join(make + [f"ln -s {target} {folder}/{name}" for name, target in _links()])

    def execute(self, site: Site) -> None:
        folder = open_inside(site.root, "/dev", make="dir")
        try:
            for name, (major, minor) in DEVICES.items():
                if self.in_user_namespace:
                    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder))
                    linux.mount(f"/dev/{name}", f"/proc/self/fd/{folder}/{name}", "", linux.MS_BIND)
                else:
                    os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=folder)
            for name, target in _links():
                os.symlink(target, name, dir_fd=folder)
        finally:
            os.close(folder)


def _links() -> list[tuple[str, str]]:
    """The links of /dev, without the one to the kernel's memory where this kernel doesn't show it, as with runc."""
    return [(name, target) for name, target in LINKS.items() if name != "core" or os.path.exists(target)]
