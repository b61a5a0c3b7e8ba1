r"""The log of a container: what it wrote, when, and to which stream.

Layer: runtime. Format, a JSON object a line, with the keys of Docker's json-file driver:

    {"log": "hello\n", "stream": "stdout", "time": "2026-05-04T12:00:00.123456789Z"}

A line of more than 16 KiB is kept in pieces, of which only the last ends in a newline; so one write never needs more
memory than that. Bytes that aren't UTF-8 come back as they were (documents.py).
"""

from __future__ import annotations

import os
import time

from ..documents import parse, render
from ..errors import IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_PIECE = 16 * 1024
STDOUT = "stdout"
STDERR = "stderr"


def timestamp(nanoseconds: int | None = None) -> str:
    """A moment as RFC 3339 writes it, in UTC, with nanoseconds: now, or so many since 1970."""
    moment = time.time_ns() if nanoseconds is None else nanoseconds
    seconds, rest = divmod(moment, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class LogWriter:
    """Appends to a log what comes out of a container's streams."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._pending = {STDOUT: b"", STDERR: b""}
        end = os.lseek(self._fd, 0, os.SEEK_END)
        if (
            end and os.pread(self._fd, 1, end - 1) != b"\n"
        ):  # a line that was torn by a crash must not take the next one with it
            os.write(self._fd, b"\n")
        self.failure = ""

    def write(self, stream: str, data: bytes) -> None:
        """Log the whole lines in `data`; what follows the last newline waits for the rest of its line."""
        *lines, rest = (self._pending[stream] + data).split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(line + b"\n")]
        *full, rest = _pieces(rest) or [b""]
        self._pending[stream] = rest
        self._append(stream, pieces + full)

    def close(self) -> None:
        """Log what waits for a newline that never came."""
        for stream, rest in self._pending.items():
            if rest:
                self._append(stream, [rest])
        os.close(self._fd)

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        """A full disk must not stop the container: what can't be logged is lost, and the state says so (`failure`)."""
        if not pieces:
            return
        now = timestamp()
        lines = [
            render({"log": piece.decode("utf-8", "surrogateescape"), "stream": stream, "time": now}) + b"\n"
            for piece in pieces
        ]
        start = os.lseek(self._fd, 0, os.SEEK_END)
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            os.ftruncate(self._fd, start)
            self.failure = f"the log is incomplete: {error.strerror}"


def _pieces(line: bytes) -> list[bytes]:
    return [line[i : i + LONGEST_PIECE] for i in range(0, len(line), LONGEST_PIECE)]


def read_log(
    path: str, follow: Callable[[], bool] | None = None, interval: float = 0.05
) -> Iterator[tuple[str, bytes, str]]:
    """The entries of a log as (stream, bytes, time), from its beginning.

    `follow` says whether more may come; while it does, the end of the file is waited at, `interval` seconds a time.
    """
    if not os.path.exists(path):  # created, and never started
        return
    with open(path, "rb") as file:
        partial = b""
        while True:
            going_on = follow is not None and follow()  # asked before reading: what came before its "no" is read
            while line := file.readline():
                partial += line
                if partial.endswith(b"\n"):
                    entry, partial = _entry(partial), b""
                    if entry:
                        yield entry
            if not going_on:
                return
            time.sleep(interval)


def _entry(line: bytes) -> tuple[str, bytes, str] | None:
    """One line of a log; None for an empty one, and for one that a crash has torn."""
    try:
        entry = parse(line)
        return entry["stream"], entry["log"].encode("utf-8", "surrogateescape"), entry["time"]
    except (IntegrityError, KeyError, TypeError, AttributeError, ValueError):
        return None
