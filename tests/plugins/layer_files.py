"""Layers made by hand for the tests: with Python's own tarfile, which is another implementation than ours."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from minicontainer.images import Image, ImageStore
from minicontainer.images.assembly import put_image
from minicontainer.images.image import architecture
from minicontainer.layers import Layer, unpack


@dataclass(frozen=True)
class Blob:
    """A layer's file and its digests."""

    path: Path
    digest: str
    diff_id: str

    def unpack(self, target: Path, limit: int | None = None) -> Path:
        """Unpack it as the engine does."""
        with self.path.open("rb") as file:
            unpack(file, str(target), self.digest, self.diff_id, limit)
        return target


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def member(name: str, content: bytes | None = None, kind: bytes = tarfile.REGTYPE, **fields: object) -> tuple:
    """An entry of an archive: what TarInfo says, and its content."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content or b"")
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def folder(name: str, **fields: object) -> tuple:
    return member(name, kind=tarfile.DIRTYPE, **fields)


def symlink(name: str, to: str) -> tuple:
    return member(name, kind=tarfile.SYMTYPE, linkname=to)


def hardlink(name: str, to: str) -> tuple:
    return member(name, kind=tarfile.LNKTYPE, linkname=to)


def archive(*members: tuple, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these members, as tarfile writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def blob(folder: Path, data: bytes, compress: bool = True) -> Blob:
    """A layer's file of these bytes of tar."""
    packed = gzip.compress(data, 1) if compress else data
    path = folder / f"blob-{hashlib.sha256(packed).hexdigest()[:16]}"
    path.write_bytes(packed)
    return Blob(path, sha256(packed), sha256(data))


def layer(folder: Path, *members: tuple) -> Blob:
    """A layer's file with these members."""
    return blob(folder, archive(*members))


def listing(tree: Path) -> dict[str, str]:
    """What is in a folder: each path with its kind and content or target."""
    found = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = "folder"
        elif path.is_file():
            found[name] = f"file {path.read_bytes()!r}"
        elif path.is_char_device() and path.stat().st_rdev == 0:
            found[name] = "whiteout"
        else:
            found[name] = "other"
    return found


def put(store: ImageStore, work: Path, *layers: Blob, names: tuple[str, ...] = (), **config: object) -> Image:
    """Put these layers into a store as an image; the files stay where they are."""
    packed = []
    for number, made in enumerate(layers):
        copy = work / f"copy-{number}"
        copy.write_bytes(made.path.read_bytes())
        packed.append((Layer(made.digest, copy.stat().st_size, made.diff_id), str(copy)))
    return put_image(store, packed, {"architecture": architecture(), "os": "linux", **config}, names)
