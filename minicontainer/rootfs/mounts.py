"""The mounts of a container, as the runtime specification lists them.

Layer: rootfs.

A mount's target is a path inside the container, and the image decides what lies there: a link `/proc -> /etc` is the
image's own choice, a link to `/../../etc` an attack. So every target is opened by openat2(2) with the container's
root as the root of the walk, and the mount is made on that descriptor: no name is resolved twice, and none outside.

Source: config.md#mounts of the OCI runtime specification; mount(8) for the option words.
"""

from __future__ import annotations

import os
import stat

from .. import linux
from ..step import CHILD, Site, Step, quote

# Option word -> (flag, whether the word sets it). Words that aren't here belong to the file system (`mode=755`).
OPTIONS = {
    "defaults": (0, True),
    "ro": (linux.MS_RDONLY, True),
    "rw": (linux.MS_RDONLY, False),
    "nosuid": (linux.MS_NOSUID, True),
    "suid": (linux.MS_NOSUID, False),
    "nodev": (linux.MS_NODEV, True),
    "dev": (linux.MS_NODEV, False),
    "noexec": (linux.MS_NOEXEC, True),
    "exec": (linux.MS_NOEXEC, False),
    "noatime": (linux.MS_NOATIME, True),
    "atime": (linux.MS_NOATIME, False),
    "nodiratime": (linux.MS_NODIRATIME, True),
    "relatime": (linux.MS_RELATIME, True),
    "strictatime": (linux.MS_STRICTATIME, True),
    "nosymfollow": (linux.MS_NOSYMFOLLOW, True),
    "bind": (linux.MS_BIND, True),
    "rbind": (linux.MS_BIND | linux.MS_REC, True),
}
_PROPAGATION = {
    "private": linux.MS_PRIVATE,
    "rprivate": linux.MS_PRIVATE | linux.MS_REC,
    "slave": linux.MS_SLAVE,
    "rslave": linux.MS_SLAVE | linux.MS_REC,
    "shared": linux.MS_SHARED,
    "rshared": linux.MS_SHARED | linux.MS_REC,
}


def parse_options(words: tuple[str, ...]) -> tuple[int, int, str]:
    """Option words as (flags of mount(2), propagation flag or 0, the file system's own option string)."""
    flags, propagation, data = 0, 0, []
    for word in words:
        if word in OPTIONS:
            flag, on = OPTIONS[word]
            flags = flags | flag if on else flags & ~flag
        elif word in _PROPAGATION:
            propagation = _PROPAGATION[word]
        else:
            data.append(word)
    return flags, propagation, ",".join(data)


def open_inside(root: int, path: str, make: str = "") -> int:
    """Open `path` inside the root, as an O_PATH descriptor; `make` a missing one: "dir", "file" or "" (don't).

    Missing parents are made too. Raises OSError, as openat2(2) does.
    """
    # magic links of /proc (fd, cwd, root) lead out of any root
    resolve = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
    relative = path.lstrip("/") or "."
    try:
        return linux.openat2(root, relative, os.O_PATH, resolve=resolve)
    except FileNotFoundError:
        if not make:
            raise
    parent_path, _, name = relative.rstrip("/").rpartition("/")
    parent = open_inside(root, parent_path, make="dir")
    try:
        if make == "dir":
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
    finally:
        os.close(parent)
    return linux.openat2(root, relative, os.O_PATH, resolve=resolve)


class Mount(Step):
    """One mount: `source` of type `fstype` on `target`, a path inside the container."""

    source: str
    target: str
    fstype: str
    options: tuple[str, ...]
    root: str

    side = CHILD
    manual = "mount(8), mount(2)"

    @property
    def is_bind(self) -> bool:
        """Whether this shows a folder or file of the host, not a new file system."""
        return "bind" in self.options or "rbind" in self.options

    def describe(self) -> str:
        target = quote(self.root + self.target)
        if self.is_bind:
            kind = "--rbind" if "rbind" in self.options else "--bind"
            make = f"mkdir -p {target}" if os.path.isdir(self.source) else f"touch {target}"
            lines = f"{make} && mount {kind} {quote(self.source)} {target}"
            extra = [word for word in self.options if word not in ("bind", "rbind") and word not in _PROPAGATION]
            return lines + (f" && mount -o remount,bind,{','.join(extra)} {target}" if extra else "")
        options = f" -o {quote(','.join(self.options))}" if self.options else ""
        return f"mkdir -p {target} && mount -t {self.fstype}{options} {quote(self.source)} {target}"

    def execute(self, site: Site) -> None:
        flags, propagation, data = parse_options(self.options)
        make = "file" if self.is_bind and not stat.S_ISDIR(os.stat(self.source).st_mode) else "dir"
        descriptor = open_inside(site.root, self.target, make=make)
        try:
            linux.mount(self.source, f"/proc/self/fd/{descriptor}", self.fstype, flags, data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.target) from None
        finally:
            os.close(descriptor)
        # Everything in this namespace is private already (MakeMountsPrivate); any other propagation is asked for.
        if propagation & linux.MS_PRIVATE:
            propagation = 0
        if (self.is_bind and flags & ~(linux.MS_BIND | linux.MS_REC)) or propagation:
            self._adjust(site, flags, propagation)

    def _adjust(self, site: Site, flags: int, propagation: int) -> None:
        """A bind mount takes its flags only when it is mounted again; propagation is always a call of its own."""
        descriptor = open_inside(site.root, self.target)
        here = f"/proc/self/fd/{descriptor}"
        try:
            if self.is_bind and flags & ~(linux.MS_BIND | linux.MS_REC):
                linux.mount("", here, "", flags & ~linux.MS_REC | linux.MS_REMOUNT | linux.MS_BIND)
            if propagation:
                linux.mount("", here, "", propagation)
        finally:
            os.close(descriptor)


class MountCgroupsV1(Step):
    """Show the container its own cgroup of every v1 hierarchy, read-only, as mount(8) would one by one.

    The cgroup namespace must be there already: it makes the container's own cgroup the root of what is mounted.
    """

    controllers: tuple[str, ...]
    root: str

    side = CHILD
    manual = "cgroups(7), cgroup_namespaces(7)"

    def describe(self) -> str:
        base = quote(f"{self.root}/sys/fs/cgroup")
        lines = [f"mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs {base}"]
        for name in self.controllers:
            folder = f"{base}/{quote(name)}"
            lines.append(f"mkdir {folder} && mount -t cgroup -o ro,nosuid,nodev,noexec,relatime,{name} cgroup {folder}")
        lines.append(f"mount -o remount,ro,nosuid,nodev,noexec,mode=755 {base}")
        return "\n".join(lines)

    def execute(self, site: Site) -> None:
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        descriptor = open_inside(site.root, "/sys/fs/cgroup")
        try:
            linux.mount("tmpfs", f"/proc/self/fd/{descriptor}", "tmpfs", flags, "mode=755")
        finally:
            os.close(descriptor)
        descriptor = open_inside(site.root, "/sys/fs/cgroup")
        try:
            for name in self.controllers:
                os.mkdir(name, 0o755, dir_fd=descriptor)
                target = f"/proc/self/fd/{descriptor}/{name}"
                linux.mount("cgroup", target, "cgroup", flags | linux.MS_RELATIME | linux.MS_RDONLY, name)
            here = f"/proc/self/fd/{descriptor}"
            linux.mount("tmpfs", here, "", linux.MS_REMOUNT | linux.MS_RDONLY | flags, "mode=755")
        finally:
            os.close(descriptor)
