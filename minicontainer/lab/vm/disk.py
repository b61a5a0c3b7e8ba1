"""A disk for images that are too large to be held in the guest's memory: ext4, made without mounting anything.

Layer: lab.vm (imports tree, errors, layers).

    layers ──merge──▶ a folder of hard links ──mke2fs -d──▶ an ext4 file system in a file

The folder costs no space, since its files are the layers' own. There is no journal: QEMU is started on a snapshot of
the disk, and what a guest writes is gone with it. Booting from it takes 0.1 s longer than from an initramfs.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence

from ...errors import HostError, MissingTool
from ...layers import Scratch
from .tree import Entry

_BLOCK = 4096
_ROOM = 64 << 20
"""Bytes that a guest finds free."""


def make_disk(tree: Sequence[Entry], path: str) -> None:
    """Put a merged tree into a new ext4 file system at `path`, all or nothing.

    Its neighbour is used to work in. Raises MissingTool without mke2fs (without privilege also without fakeroot, which
    makes the caller's files root's), HostError where it fails.
    """
    command = [_tool("mke2fs", "e2fsprogs")]
    if os.geteuid() != 0:
        command = [_tool("fakeroot", "fakeroot"), "--", *command]
    with Scratch(os.path.dirname(path)) as scratch:
        folder, image = os.path.join(scratch.path, "root"), os.path.join(scratch.path, "disk")
        link_tree(tree, os.fsencode(folder))
        with open(image, "wb") as file:
            file.truncate(_size(tree))
        options = ["-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-m", "0", "-N", str(len(tree) + 1024)]
        features = ["-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=0"]
        run = subprocess.run(
            [*command, *options, *features, "-d", folder, image], capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            said = (run.stderr.strip() or "it didn't say why").splitlines()[-1]
            raise HostError(f"mke2fs can't make the guest's disk: {said}", hint=f"is there space in {scratch.parent}?")
        os.rename(image, path)


def link_tree(tree: Sequence[Entry], target: bytes) -> None:
    """Make a merged tree a real one in the new folder `target`: files are hard links, or copies on another file system.

    Without privilege devices are left out, and all is the caller's. Raises OSError.
    """
    privileged = os.geteuid() == 0
    for entry in tree:
        path = os.path.join(target, entry.name) if entry.name else target
        mode = entry.status.st_mode
        if entry.is_folder:
            os.mkdir(path, 0o700)
        elif entry.is_file:
            _link(entry.source, path)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(entry.source), path)
        elif privileged and not stat.S_ISSOCK(mode):
            os.mknod(path, mode, entry.status.st_rdev)
        else:
            continue
        if privileged and not entry.is_file:
            os.chown(path, *entry.owner, follow_symlinks=False)
    for entry in reversed(tree):
        if entry.is_folder:
            path = os.path.join(target, entry.name) if entry.name else target
            os.utime(path, ns=(entry.status.st_mtime_ns, entry.status.st_mtime_ns))
            os.chmod(path, stat.S_IMODE(entry.status.st_mode) | (0 if privileged else 0o700))


def _link(source: bytes, path: bytes) -> None:
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copy2(source, path, follow_symlinks=False)
        if os.geteuid() == 0:
            status = os.lstat(source)
            os.chown(path, status.st_uid, status.st_gid)
            os.chmod(path, stat.S_IMODE(status.st_mode))  # chown(2) took the set-user-ID bit away


def _size(tree: Sequence[Entry]) -> int:
    """Bytes for the tree and some room: contents in whole blocks, inodes, a tenth for the file system's own."""
    contents = sum(-(-entry.status.st_size // _BLOCK) * _BLOCK for entry in tree if entry.is_file)
    folders = sum(entry.is_folder for entry in tree) * _BLOCK
    total = contents + folders + (len(tree) + 1024) * 256
    return -(-(total + total // 10 + _ROOM) // _BLOCK) * _BLOCK


def _tool(program: str, package: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise MissingTool(f"{program} is not installed", hint=f"apt-get install {package}")
    return path
