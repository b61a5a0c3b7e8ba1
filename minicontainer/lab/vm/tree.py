"""The layers of an image seen as the one tree that overlay would show, without mounting anything.

Layer: lab.vm (imports layers).

    topmost  usr/bin/app   etc/(opaque)/hosts   tmp = c 0:0
    below    usr/lib/x     etc/passwd           tmp/          ──merge──▶  etc etc/hosts usr usr/bin usr/bin/app …

Rules (kernel, filesystems/overlayfs.rst): the topmost entry of a name wins; folders of one name are merged until one is
opaque or something else lies below; a character device 0:0 hides the name. Names are bytes, in byte order: the same
layers give the same tree everywhere.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...layers import whiteouts


@dataclass(frozen=True)
class Entry:
    """One file, folder, link or device of the merged tree."""

    name: bytes
    """Relative to the root, without a leading slash; b"" is the root itself."""
    source: bytes
    """Where it lies in its layer."""
    status: os.stat_result
    owner: tuple[int, int]
    """User and group in the guest."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


def merge(layers: Sequence[str]) -> list[Entry]:
    """The merged tree of unpacked layers, topmost first; a folder comes before what is in it.

    Where a user without privilege unpacked the layers, all is that user's: in the guest it is root's. Raises OSError.
    """
    mine = (os.geteuid(), os.getegid())
    return [
        Entry(name, source, status, _owner(status, mine))
        for name, source, status in _walk(b"", [os.fsencode(layer) for layer in layers])
    ]


def _owner(status: os.stat_result, mine: tuple[int, int]) -> tuple[int, int]:
    return 0 if status.st_uid == mine[0] else status.st_uid, 0 if status.st_gid == mine[1] else status.st_gid


def _walk(name: bytes, folders: list[bytes]) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    if not folders:
        return
    yield name, folders[0], os.lstat(folders[0])
    children: dict[bytes, list[bytes]] = {}
    for folder in folders:
        for child in os.listdir(folder):
            children.setdefault(child, []).append(os.path.join(folder, child))
    for child, candidates in sorted(children.items()):
        path = os.path.join(name, child)
        status = os.lstat(candidates[0])
        if whiteouts.is_whiteout(status):
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, _merged_folders(candidates))
        else:
            yield path, candidates[0], status


def _merged_folders(candidates: list[bytes]) -> list[bytes]:
    """Those of the same-named entries, topmost first, whose contents are seen together."""
    folders: list[bytes] = []
    for path in candidates:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            break
        folders.append(path)
        if whiteouts.is_opaque(path):
            break
    return folders


def content_size(tree: Sequence[Entry]) -> int:
    """Bytes of all files, each counted once however many names it has."""
    files = {(entry.status.st_dev, entry.status.st_ino): entry.status.st_size for entry in tree if entry.is_file}
    return sum(files.values())


def fingerprint(tree: Sequence[Entry]) -> str:
    """A digest that changes when anything in the tree does: of names, kinds, owners, sizes, times, not of contents."""
    digest = hashlib.sha256()
    for entry in tree:
        status = entry.status
        numbers = (status.st_mode, *entry.owner, status.st_size, status.st_mtime_ns, status.st_ino, status.st_rdev)
        digest.update(b"%b\0%b\n" % (entry.name, repr(numbers).encode()))
    return digest.hexdigest()
