"""What a monitor and the command attached to it say to each other.

Layer: runtime. A frame, on a Unix stream socket, begins as in Docker's attach protocol:

    byte 0     kind (below)
    bytes 1-3  0
    bytes 4-7  length of what follows, big-endian

    monitor → client    STDOUT, STDERR: what the process wrote
                        REPORT: JSON, first {"started": …} or {"failed": …}, at the end {"exited": code}
    client → monitor    STDIN: what the user typed; an empty one closes it
                        RESIZE: JSON [rows, columns]
                        SIGNAL: JSON, the number
"""

from __future__ import annotations

import os
import struct

from ..documents import parse
from ..errors import MinicontainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STDIN, STDOUT, STDERR, REPORT, RESIZE, SIGNAL = range(6)

_HEADER = struct.Struct(">BxxxI")


def frame(kind: int, payload: bytes) -> bytes:
    """One frame, ready to be written."""
    return _HEADER.pack(kind, len(payload)) + payload


class FrameReader:
    """Cuts the bytes that arrive on a descriptor into frames."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = b""

    def read(self) -> list[tuple[int, bytes]] | None:
        """The frames that one read(2) completes, perhaps none; None at the end, or when the other side was killed."""
        try:
            data = os.read(self.descriptor, 65536)
        except (ConnectionResetError, BrokenPipeError):
            return None
        if not data:
            return None
        self._buffer += data
        frames = []
        while len(self._buffer) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append((kind, self._buffer[_HEADER.size : end]))
            self._buffer = self._buffer[end:]
        return frames


def read_report(descriptor: int) -> dict[str, Any]:
    """The first frame, which is a report, and not a byte more than it; {} when the monitor was killed before it."""
    header = _read_exactly(descriptor, _HEADER.size)
    if len(header) < _HEADER.size:
        return {}
    _, length = _HEADER.unpack(header)
    payload = _read_exactly(descriptor, length)
    if len(payload) < length:
        return {}
    report: dict[str, Any] = parse(payload)
    return report


def _read_exactly(descriptor: int, length: int) -> bytes:
    data = b""
    while len(data) < length:
        try:
            more = os.read(descriptor, length - len(data))
        except ConnectionResetError:
            break
        if not more:
            break
        data += more
    return data


def exit_code(payload: bytes) -> int:
    """What the last report says. Raises MinicontainerError when it is that the monitor itself has failed."""
    report = parse(payload)
    if "exited" not in report:
        raise MinicontainerError(
            f"the container's monitor has failed: {report['failed']}", hint="minicontainer ps -a shows what is left"
        )
    return int(report["exited"])


def write_all(descriptor: int, data: bytes) -> bool:
    """Write all of `data` to a blocking descriptor; False when nobody reads it any more."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True
