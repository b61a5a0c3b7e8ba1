"""Pack a folder into a layer: a tar archive that depends on the folder's content and on nothing else.

Layer: layers (imports tar, whiteouts, errors, values).

    tree ──sorted──▶ entries ──▶ tar ──┬──sha256──▶ diff id          what the layer's content is called
                                       └──gzip──┬─sha256──▶ digest   what the blob is called
                                                └──▶ out             all in one pass, nothing held in memory

Rules for equal bytes on any machine, on any day: entries sorted by name; owners as numbers only; no access or change
times; modification times in whole seconds and no later than the epoch that the caller gives (reproducible-builds.org,
SOURCE_DATE_EPOCH); of hard links the first name has the content; gzip without name and time. Of the extended
attributes, `user.*` and `security.capability` are kept: the others belong to the host.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ..errors import Conflict, InvalidArgument
from ..values import Value
from . import tar, whiteouts

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_PIECE = 1 << 18
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.FOLDER,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.DEVICE,
    stat.S_IFIFO: tar.FIFO,
}


class Layer(Value):
    """A packed layer: the blob's digest and size in bytes, and the diff id, which is the digest of the tar inside."""

    digest: str
    size: int
    diff_id: str
    media_type: str = GZIP


class LayerWriter:
    """Write entries into `out` as a compressed archive, and take both digests on the way."""

    def __init__(self, out: BinaryIO, level: int = 6) -> None:
        self._out = out
        self._size = 0
        self._inside = hashlib.sha256()
        self._outside = hashlib.sha256()
        # 31: a gzip wrapper around the largest window; zlib writes it without a name and with time 0.
        self._gzip = zlib.compressobj(level, zlib.DEFLATED, 31)

    def add(self, entry: tar.Entry, content: Iterable[bytes] = ()) -> None:
        """Append one entry. Raises Conflict if its content hasn't the size that its header says."""
        self._write(tar.render(entry))
        left = entry.size
        for piece in content:
            left -= len(piece)
            if left < 0:
                break
            self._write(piece)
        if left:
            raise Conflict(f"{os.fsdecode(entry.name)} changed while it was packed")
        self._write(tar.padding(entry.size))

    def finish(self) -> Layer:
        """Write the end of the archive. `out` stays open."""
        self._write(tar.END)
        self._emit(self._gzip.flush())
        return Layer(f"sha256:{self._outside.hexdigest()}", self._size, f"sha256:{self._inside.hexdigest()}")

    def _write(self, data: bytes) -> None:
        self._inside.update(data)
        self._emit(self._gzip.compress(data))

    def _emit(self, data: bytes) -> None:
        self._outside.update(data)
        self._size += len(data)
        self._out.write(data)


def pack(tree: str, out: BinaryIO, epoch: int | None = None, owner: tuple[int, int] | None = None) -> Layer:
    """Pack what is in the folder `tree`, which must not change meanwhile, and write the blob to `out`.

    `epoch`: no modification time is later than this, in seconds since 1970. `owner`: user and group of everything,
    for a tree that a normal user made. Overlay's whiteouts and opaque folders become the tar's. The folder itself
    has no entry; sockets have none either. Raises OSError as reading does, Conflict if a file changes, InvalidArgument
    for a name that a layer can't have.
    """
    writer = LayerWriter(out)
    linked: dict[tuple[int, int], bytes] = {}
    for name, path in _walk(os.fsencode(tree)):
        status = os.lstat(path)
        folder, _, last = name.rpartition(b"/")
        if last.startswith(whiteouts.PREFIX):
            raise InvalidArgument(f"{os.fsdecode(path)} can't be in a layer: names in .wh. are its marks for deletions")
        if whiteouts.is_whiteout(status):
            writer.add(tar.Entry((folder + b"/" if folder else b"") + whiteouts.PREFIX + last))
            continue
        entry = _entry(name, path, status)
        if entry is None:
            continue
        if owner:
            entry.uid, entry.gid = owner
        if status.st_nlink > 1 and entry.kind != tar.FOLDER:
            first = linked.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry = tar.Entry(name, tar.HARDLINK, entry.mode, entry.uid, entry.gid, 0, entry.mtime, first)
        _clamp(entry, epoch)
        writer.add(entry, _content(path) if entry.kind == tar.FILE else ())
        if entry.kind == tar.FOLDER and whiteouts.is_opaque(path):
            writer.add(tar.Entry(name + b"/" + whiteouts.OPAQUE))
    return writer.finish()


def repack(source: BinaryIO, out: BinaryIO, epoch: int | None, keep: Callable[[bytes], bool]) -> Layer:
    """Make a layer of another program's tar, in its order: only the names that `keep` wants, rewritten by our rules."""
    reader, writer = tar.Reader(source.read), LayerWriter(out)
    for entry in reader:
        entry.name = entry.name.removeprefix(b"./").rstrip(b"/")
        if entry.kind == tar.HARDLINK:
            entry.link = entry.link.removeprefix(b"./")
        if entry.name not in (b"", b".") and keep(entry.name):
            entry.xattrs = {key: value for key, value in entry.xattrs.items() if is_kept(key)}
            _clamp(entry, epoch)
            writer.add(entry, reader.content())
    return writer.finish()


def is_kept(xattr: bytes) -> bool:
    """Whether an extended attribute belongs into a layer."""
    return xattr == b"security.capability" or (xattr.startswith(b"user.") and not xattr.startswith(b"user.overlay."))


def _walk(top: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each name below `top`, with its path: a folder before what is in it, everything sorted."""
    pending = [b""]
    while pending:
        name = pending.pop()
        path = top + b"/" + name if name else top
        if name:
            yield name, path
        if stat.S_ISDIR(os.lstat(path).st_mode):
            below = sorted(os.listdir(path), reverse=True)
            pending += [name + b"/" + last if name else last for last in below]


def _entry(name: bytes, path: bytes, status: os.stat_result) -> tar.Entry | None:
    """The header for what is at `path`; None for what a tar can't hold."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    entry = tar.Entry(name, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, mtime=status.st_mtime_ns)
    if kind == tar.FILE:
        entry.size = status.st_size
    elif kind == tar.SYMLINK:
        entry.link = os.readlink(path)
    elif kind in (tar.CHARACTER, tar.DEVICE):
        entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    for key in os.listxattr(path, follow_symlinks=False):
        if is_kept(os.fsencode(key)):
            entry.xattrs[os.fsencode(key)] = os.getxattr(path, key, follow_symlinks=False)
    return entry


def _clamp(entry: tar.Entry, epoch: int | None) -> None:
    if epoch is not None:
        entry.mtime = min(entry.mtime, epoch * 10**9)


def _content(path: bytes) -> Iterator[bytes]:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece
