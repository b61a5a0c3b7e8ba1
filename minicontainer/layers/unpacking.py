"""Unpack a layer into a folder that overlay can use.

Layer: layers (imports tar, tree, scratch, documents, errors).

    blob ──sha256 = digest?──▶ gunzip ──sha256 = diff id?──▶ tar ──▶ entries ──▶ .tmp-…/tree ──rename──▶ target

Rules: nothing is at `target` before both digests were right: it is written beside it, and moved there at the very end.
Memory stays flat whatever the size. What the blob may grow to is limited, in bytes of tar.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ..documents import write_document
from ..errors import DigestMismatch, HostError, IntegrityError
from . import tar
from .scratch import Scratch
from .tree import Tree

LEAST_LIMIT = 1 << 30
_PIECE = 1 << 18


def unpack(blob: BinaryIO, target: str, digest: str, diff_id: str, limit: int | None = None) -> None:
    """Unpack the layer in the file `blob`, a tar as it is or in gzip, into the new folder `target`.

    Beside it comes `target`.size, with the bytes of its files. `limit` is the largest tar allowed, in bytes: by default
    100 times the blob, at least 1 GiB. Raises DigestMismatch if the blob isn't `digest` or its tar isn't `diff_id`;
    IntegrityError if it is damaged, too large, or wants to leave its folder; HostError where the disk is full or can't
    be written. Without root's rights owners are not set, and devices are left out (tree.py).
    """
    source = _Source(blob, limit)
    try:
        with Scratch(os.path.dirname(target)) as scratch:
            path = os.path.join(scratch.path, "tree")
            os.mkdir(path)
            os.chmod(path, 0o755)  # whatever the umask
            with contextlib.closing(Tree(path)) as tree:
                reader = tar.Reader(source.read)
                for entry in reader:
                    tree.add(entry, reader.content())
            source.check(digest, diff_id)
            write_document(f"{target}.size", tree.size, durable=False)
            os.rename(path, target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise IntegrityError("the layer has a name that is too long for this file system") from None
        name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise HostError(f"can't unpack a layer to {target}: {name}{error.strerror or error}") from None


class _Source:
    """The tar inside a blob: hashed outside and inside as it passes, and counted against the limit."""

    def __init__(self, blob: BinaryIO, limit: int | None) -> None:
        self._blob = blob
        self._limit = limit or max(LEAST_LIMIT, 100 * os.fstat(blob.fileno()).st_size)
        self._outside = hashlib.sha256()
        self._inside = hashlib.sha256()
        self._pieces = self._count()
        self._piece = b""
        self._at = 0

    def read(self, count: int) -> bytes:
        """The next `count` bytes of the tar, fewer only at its end."""
        parts = []
        while count:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    break
            part = self._piece[self._at : self._at + count]
            parts.append(part)
            self._at += len(part)
            count -= len(part)
        return b"".join(parts)

    def check(self, digest: str, diff_id: str) -> None:
        """Read what is left, and compare both digests. Raises DigestMismatch."""
        for _ in self._pieces:
            pass
        for what, wanted, seen in (("blob", digest, self._outside), ("tar inside", diff_id, self._inside)):
            if wanted != f"sha256:{seen.hexdigest()}":
                raise DigestMismatch(f"layer {digest}: its {what} should be {wanted} but is sha256:{seen.hexdigest()}")

    def _count(self) -> Iterator[bytes]:
        for piece in self._decompress():
            self._limit -= len(piece)
            if self._limit < 0:
                raise IntegrityError("the layer grows beyond its limit when it is unpacked: a bomb?")
            self._inside.update(piece)
            yield piece

    def _decompress(self) -> Iterator[bytes]:
        """The tar in pieces of bounded size; several gzip members in a row are one stream (RFC 1952, 2.2)."""
        data = self._next()
        if data[:4] == b"\x28\xb5\x2f\xfd":
            raise IntegrityError("the layer is compressed with zstd, which this version can't read")
        if data[:2] != b"\x1f\x8b":
            while data:
                yield data
                data = self._next()
        while data:
            inflate = zlib.decompressobj(31)
            while not inflate.eof:
                if not data:
                    raise IntegrityError("the layer is cut off: its gzip stream has no end")
                try:
                    piece = inflate.decompress(data, _PIECE)
                except zlib.error as error:
                    raise IntegrityError(f"the layer's gzip stream is damaged: {error}") from None
                if piece:
                    yield piece
                data = inflate.unconsumed_tail or inflate.unused_data or self._next()

    def _next(self) -> bytes:
        data = self._blob.read(_PIECE)
        self._outside.update(data)
        return data
