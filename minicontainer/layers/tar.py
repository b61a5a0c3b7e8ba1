"""The tar format: entries to bytes and back.

Layer: layers (imports errors).

    archive = { header block, content padded to 512 bytes }, two blocks of zeros
    header  = name 100, mode 8, uid 8, gid 8, size 12, mtime 12, checksum 8, kind 1, link 100, magic 8, user 32,
              group 32, major 8, minor 8, prefix 155, zeros 12: numbers as octal text                   (POSIX ustar)
    what has no room there is in an entry of kind `x` in front: lines of "length key=value"                (POSIX pax)
    read, but not written: kinds `L` and `K` for long names, numbers in base 256                                 (GNU)

Why not `tarfile`: its output changes with Python's version, and equal trees must give equal bytes; it ends without a
word at a damaged header, and reads an extended one of any size into memory.

Rules: names are bytes, as the kernel has them. Same entry, same bytes: no user names, no clock, pax only where needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..errors import IntegrityError

BLOCK = 512
END = bytes(2 * BLOCK)
FILE, HARDLINK, SYMLINK, CHARACTER, DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_BARE = (HARDLINK, SYMLINK, CHARACTER, DEVICE, FOLDER, FIFO)
"""The kinds that have no content, whatever their header says of a size."""
_XATTR = b"SCHILY.xattr."
_LARGEST_EXTENSION = 1 << 20
_PIECE = 1 << 18


@dataclass
class Entry:
    """One member of an archive. `mode` has the permission bits only; `mtime` is in nanoseconds since 1970."""

    name: bytes
    kind: bytes = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


def padding(size: int) -> bytes:
    """The zeros that fill the last block of a content of `size` bytes."""
    return bytes(-size % BLOCK)


def render(entry: Entry) -> bytes:
    """The header of `entry`, with an extended one in front where the plain one has no room. Times in whole seconds."""
    records: dict[bytes, bytes] = {}
    name = entry.name + b"/" if entry.kind == FOLDER else entry.name
    prefix, short = _split(name)
    if not short:
        records[b"path"], short = name, name[:100].rstrip(b"/")
    if len(entry.link) > 100 or not entry.link.isascii():
        records[b"linkpath"] = entry.link
    numbers = []
    values = ((b"uid", entry.uid, 8), (b"gid", entry.gid, 8), (b"size", entry.size, 12))
    for key, number, width in (*values, (b"mtime", entry.mtime // 10**9, 12)):
        fits = 0 <= number < 8 ** (width - 1)
        numbers.append(_octal(number if fits else 0, width))
        if not fits:
            records[key] = b"%d" % number
    records.update((_XATTR + key, entry.xattrs[key]) for key in sorted(entry.xattrs))
    header = b"".join((
        short.ljust(100, b"\0"), _octal(entry.mode, 8), *numbers, b" " * 8, entry.kind,
        entry.link[:100].ljust(100, b"\0"), b"ustar\00000", bytes(64), _octal(entry.major, 8), _octal(entry.minor, 8),
        prefix.ljust(155, b"\0"), bytes(12),
    ))  # fmt: skip
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return _extended(records) + header if records else header


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Cut a name at a slash into ustar's prefix and name; an empty name says that it doesn't fit."""
    if not name.isascii() or len(name) <= 100:
        return b"", name if name.isascii() else b""
    cut = name.find(b"/", len(name) - 101)
    return (name[:cut], name[cut + 1 :]) if 0 < cut <= 155 and cut < len(name) - 1 else (b"", b"")


def _extended(records: dict[bytes, bytes]) -> bytes:
    """An entry of kind `x`: each record begins with its own length, the digits of that length included."""
    body = b""
    for key, value in records.items():
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest)
        while len(b"%d" % length) + len(rest) != length:
            length = len(b"%d" % length) + len(rest)
        body += b"%d" % length + rest
    return render(Entry(b"PaxHeaders", b"x", size=len(body))) + body + padding(len(body))


class Reader:
    """Read an archive from front to back: iterate over the entries, and take each one's content with `content()`.

    `read(n)` must give n bytes, fewer only at the end. Raises IntegrityError on whatever isn't tar.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = 0
        self._padding = 0

    def content(self) -> Iterator[bytes]:
        """The content of the entry that was given last, in pieces."""
        while self._left:
            piece = self._read(min(self._left, _PIECE))
            if not piece:
                raise IntegrityError("the archive ends in the middle of a file")
            self._left -= len(piece)
            yield piece
        self._read(self._padding)
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Each member with its extensions applied; unread content is passed over."""
        records: dict[bytes, bytes] = {}
        while block := self._next_block():
            entry = _parse(block)
            if entry.kind in b"xgLK":
                self._left, self._padding = entry.size, -entry.size % BLOCK
                if entry.size > _LARGEST_EXTENSION:
                    raise IntegrityError(f"an extended header of {entry.size} bytes")
                body = b"".join(self.content())
                if entry.kind == b"x":
                    records = _records(body)
                elif entry.kind != b"g":  # a global one is a comment in practice: ignored, as Docker does
                    records[b"path" if entry.kind == b"L" else b"linkpath"] = body.split(b"\0")[0]
                continue
            _apply(entry, records)
            _check(entry)
            self._left, self._padding, records = entry.size, -entry.size % BLOCK, {}
            yield entry

    def _next_block(self) -> bytes:
        """The next header, or nothing at the end: a block of zeros, or no more bytes."""
        for _ in self.content():
            pass
        block = self._read(BLOCK)
        if len(block) not in (0, BLOCK):
            raise IntegrityError("the archive ends in the middle of a header")
        return block if any(block) else b""


def _parse(block: bytes) -> Entry:
    """A header block as an entry."""
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    size = _number(block[124:136])
    if _number(block[148:156]) != total or size < 0:
        raise IntegrityError("a tar header with a wrong checksum, or a size below zero")
    name, kind = block[:100].split(b"\0")[0], block[156:157]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0")[0] + b"/" + name
    return Entry(
        name=name, kind=FILE if kind in (b"\0", b"7") else kind, mode=_number(block[100:108]) & 0o7777,
        uid=_number(block[108:116]), gid=_number(block[116:124]), size=size, mtime=_number(block[136:148]) * 10**9,
        link=block[157:257].split(b"\0")[0], major=_number(block[329:337]), minor=_number(block[337:345]),
    )  # fmt: skip


def _number(text: bytes) -> int:
    """A number in octal text or, with the top bit set, in base 256 (GNU)."""
    if text[0] & 0x80:
        negative = text[0] & 0x40
        return int.from_bytes(bytes([text[0] & 0x7F]) + text[1:], "big") - (1 << (8 * len(text) - 1) if negative else 0)
    digits = text.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise IntegrityError(f"not a number in a tar header: {text!r}")
    return int(digits or b"0", 8)


def _records(body: bytes) -> dict[bytes, bytes]:
    """The records of an extended header."""
    records = {}
    while body:
        digits = body.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, equals, value = body[len(digits) + 1 : length].partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(body):
            raise IntegrityError("a damaged extended header")
        records[key] = value[:-1]
        body = body[length:]
    return records


def _apply(entry: Entry, records: dict[bytes, bytes]) -> None:
    """Put the records of an extended header over the entry's own fields."""
    try:
        for key, value in records.items():
            if key in (b"path", b"linkpath"):
                setattr(entry, {b"path": "name", b"linkpath": "link"}[key], value)
            elif key in (b"uid", b"gid", b"size"):
                setattr(entry, key.decode(), int(value))
            elif key == b"mtime":
                whole, _, part = value.partition(b".")
                nanoseconds = int(part[:9].ljust(9, b"0"))
                entry.mtime = int(whole) * 10**9 + (-nanoseconds if whole.startswith(b"-") else nanoseconds)
            elif key.startswith(_XATTR):
                entry.xattrs[key.removeprefix(_XATTR)] = value
            elif key.startswith(b"GNU.sparse."):
                raise IntegrityError(f"a sparse file, which this version can't read: {entry.name[:80]!r}")
    except ValueError:
        raise IntegrityError(f"a damaged extended header of {entry.name[:80]!r}") from None


def _check(entry: Entry) -> None:
    """Refuse what no system call could take: Python would answer with an OverflowError, or chown with "as it was"."""
    if entry.kind == FILE and entry.name.endswith(b"/"):  # how folders were marked before there were kinds
        entry.kind = FOLDER
    if entry.kind in _BARE:
        entry.size = 0
    limits = ((entry.size, 2**63), (entry.uid, 2**32 - 1), (entry.gid, 2**32 - 1), (entry.major, 2**12))
    good = all(0 <= number < limit for number, limit in limits) and 0 <= entry.minor < 2**20
    good = good and abs(entry.mtime) < 2**92  # nanoseconds: the seconds fit into 64 bits
    good = good and (entry.link != b"" or entry.kind not in (HARDLINK, SYMLINK))
    if not good or b"\0" in b"".join((entry.name, entry.link, *entry.xattrs)):
        raise IntegrityError(f"a tar header that can't be meant: {entry.name[:80]!r}")
