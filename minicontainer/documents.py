"""JSON documents and files that survive a crash.

Layer: bottom (imports nothing of the package but errors).

    parse(bytes) -> value        read_document(path) -> value
    render(value) -> bytes       write_document(path, value)      replace_file(path, bytes)      with Lock(path): …

A file is replaced as a whole or not at all: the new content goes to a temporary neighbour, is fsynced, and takes the
old one's place by rename(2), which is atomic. After `kill -9` or a power cut, the old or the new content is there,
never half of it.

Why not `json`: it compiles regular expressions when it is imported, 6 ms of a start that takes 25 in all. The scanner
and the encoder behind it are C functions that don't need them. Why not `hashlib`: it loads OpenSSL, 2 ms, which pays
for layers but not for a document of a few kilobytes. Where an interpreter hasn't got these parts, the modules serve.
"""

from __future__ import annotations

import errno
import fcntl
import os

from .errors import HostError, IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring, make_encoder, make_scanner

    FAST = True
except ImportError:  # not CPython
    FAST = False

try:
    from _sha256 import sha256  # CPython 3.11
except ImportError:
    try:
        from _sha2 import sha256  # from 3.12 on
    except ImportError:
        from hashlib import sha256

_SPACE = b" \t\r\n"


class _Strict:
    """The settings that the C scanner reads from the decoder which owns it (json.JSONDecoder's attributes)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        """Refuse NaN and Infinity, which RFC 8259 doesn't know."""
        raise ValueError(f"{name} is not JSON")


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def parse(data: bytes) -> Any:
    """The value that JSON bytes stand for. Raises IntegrityError where they aren't JSON (RFC 8259)."""
    try:
        text = data.strip(_SPACE).decode()
        if not FAST:
            import json  # the slow road, only where the C scanner is missing

            return json.loads(text, parse_constant=_Strict.parse_constant)
        # The first call gives StopIteration at the offset where no value begins.
        try:
            value, end = make_scanner(_Strict())(text, 0)  # type: ignore[arg-type]  # it reads attributes, no more
        except SystemError:
            import json  # the scanner found an error, and looked in vain for this module to describe it

            return json.loads(text, parse_constant=_Strict.parse_constant)
        if end != len(text):
            raise ValueError(f"unexpected text at character {end}")
        return value
    except StopIteration as stop:
        raise IntegrityError(f"not JSON: no value at character {stop.value}") from None
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"not JSON: {error}") from None


def render(value: object, sort_keys: bool = False) -> bytes:
    """Compact JSON in UTF-8, on one line, without a newline. Equal values with `sort_keys` give equal bytes."""
    if not FAST:
        import json  # as above

        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False)
    else:
        encode = make_encoder({}, _refuse, encode_basestring, None, ":", ",", sort_keys, False, False)
        text = "".join(encode(value, 0))
    # A lone surrogate (how Python keeps an argument that is not UTF-8) becomes its JSON escape, and comes back from it.
    return text.encode("utf-8", "backslashreplace")


def digest_of(data: bytes) -> str:
    """The digest that a document is known by: "sha256:" and 64 hexadecimal digits (descriptor.md#digests)."""
    return f"sha256:{sha256(data).hexdigest()}"


def read_document(path: str) -> Any:
    """Parse the JSON file at `path`. Raises OSError (as open does) and IntegrityError, which names the file."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        return parse(data)
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error.message}") from None


def write_document(path: str, value: object, durable: bool = True) -> None:
    """Put `value` into the file at `path` as JSON, all or nothing."""
    replace_file(path, render(value) + b"\n", durable=durable)


def write_new_document(path: str, value: object) -> None:
    """Write `value` as JSON into a new file, in a folder that nobody looks into yet."""
    with open(path, "xb") as file:
        file.write(render(value) + b"\n")


def replace_file(path: str, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Replace the file at `path` atomically (rename(2)); `durable` also waits for the disk (fsync(2)).

    Raises HostError where the disk is full, OSError otherwise; the temporary file never stays.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, mode)) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException as error:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostError(
                f"no space left on the disk that holds {os.path.dirname(path)}",
                hint="free some space, or set another state folder with --root or MINICONTAINER_ROOT",
            ) from None
        raise


class Lock:
    """An exclusive lock between processes, held for a `with` block: flock(2) on a file, which is made if missing.

    The kernel drops it with the process that held it, so a killed command never leaves one behind.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    @property
    def descriptor(self) -> int:
        """The locked file, to hand on: the lock is held as long as any process has it open."""
        return self._fd

    def __enter__(self) -> Lock:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
