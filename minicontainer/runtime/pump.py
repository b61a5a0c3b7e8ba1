"""The pump: moves bytes between a container, its log, and a client that may or may not be there.

Layer: runtime. Runs in the monitor; one poll(2) loop, nothing else.

    container's stdout, stderr (two pipes, or one terminal) ──▶ log, and frames to the client
    client's STDIN frames ──▶ container's stdin           RESIZE, SIGNAL ──▶ ioctl, kill

Nothing that a client does can stop a container for good, or the monitor from seeing it end: descriptors to both don't
block. What a slow client hasn't taken yet is kept, up to a bound; above it the container's output waits in its pipe,
as it would for a slow terminal. A client that is gone is forgotten, and the container goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct

from ..documents import parse, render
from ..errors import IntegrityError
from . import frames
from .logs import STDERR, STDOUT, LogWriter

_TIOCSWINSZ = 0x5414
_CHUNK = 65536
_MOST_UNSENT = 1 << 20  # bytes
_MOST_IN_A_PIPE = 1 << 20  # bytes: pipe(7), /proc/sys/fs/pipe-max-size


class Pump:
    """The streams of one process."""

    def __init__(self, client: int, attached: bool) -> None:
        self.client = client
        self.attached = attached
        self.log: LogWriter | None = None
        self.log_failure = ""
        self._pid = 0
        self._tty = False
        self._input = -1
        self._input_ends = False
        self._outputs: dict[int, tuple[str, int]] = {}
        self._unsent = b""
        self._unfed = b""
        self._reader = frames.FrameReader(client)

    def open_pipes(self, request_input: bool, tty: bool) -> tuple[int, int, int]:
        """The container's ends of its three streams. A terminal will replace them, so with `tty` they are /dev/null."""
        self._tty = tty
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if tty:
            return null, null, null
        stdin = null
        if request_input:
            os.close(null)
            stdin, self._input = os.pipe()
            os.set_blocking(self._input, False)
        output, stdout = os.pipe()
        errors, stderr = os.pipe()
        self._outputs = {output: (STDOUT, frames.STDOUT), errors: (STDERR, frames.STDERR)}
        return stdin, stdout, stderr

    def use_terminal(self, master: int) -> None:
        """Take the controlling end of a terminal for input and output."""
        os.set_blocking(master, False)
        self._input = os.dup(master)
        self._outputs = {master: (STDOUT, frames.STDOUT)}

    def report(self, message: dict[str, object]) -> None:
        """Tell the client something in JSON."""
        self._send(frames.REPORT, render(message))

    def run(self, pid: int) -> None:
        """Move bytes until process `pid`, a child, has ended, and then what is left in its streams."""
        self._pid = pid
        pidfd = os.pidfd_open(pid)
        while True:
            poll = self._interests()
            poll.register(pidfd, select.POLLIN)
            events = dict(poll.poll())
            for descriptor in [fd for fd in events if fd in self._outputs]:
                self._take_output(descriptor)
            if self.client in events:
                self._serve_client(events[self.client])
            if self._input in events:
                self._feed()
            if pidfd in events:
                break
        os.close(pidfd)
        for descriptor in list(self._outputs):
            os.set_blocking(descriptor, False)
            for _ in range(_MOST_IN_A_PIPE // _CHUNK):  # a process left in the background may write for ever
                if descriptor not in self._outputs or not self._take_output(descriptor):
                    break

    def finish(self) -> None:
        """Wait until the client has taken everything, or is gone."""
        if self.client >= 0:
            os.set_blocking(self.client, True)
            frames.write_all(self.client, self._unsent)

    def close_log(self) -> None:
        """Complete the log; `log_failure` says then what of it was lost."""
        if self.log:
            self.log.close()
            self.log_failure = self.log.failure

    def _interests(self) -> select.poll:
        poll = select.poll()
        if len(self._unsent) < _MOST_UNSENT:
            for descriptor in self._outputs:
                poll.register(descriptor, select.POLLIN)
        if self.client >= 0:
            poll.register(self.client, select.POLLIN * (not self._unfed) | select.POLLOUT * bool(self._unsent))
        if self._input >= 0 and self._unfed:
            poll.register(self._input, select.POLLOUT)
        return poll

    def _take_output(self, descriptor: int) -> bool:
        """Read once from a stream of the container; False when there is nothing more, now or ever."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that nobody holds its other end
                raise
            data = b""
        if not data:
            os.close(descriptor)
            del self._outputs[descriptor]
            return False
        stream, kind = self._outputs[descriptor]
        if self.log:
            self.log.write(stream, data)
        if self.attached:
            self._send(kind, data)
        return True

    def _send(self, kind: int, payload: bytes) -> None:
        if self.client >= 0:
            self._unsent += frames.frame(kind, payload)
            self._flush()

    def _flush(self) -> None:
        """Send what the client takes now."""
        os.set_blocking(self.client, False)
        while self._unsent and self.client >= 0:
            try:
                self._unsent = self._unsent[os.write(self.client, self._unsent) :]
            except BlockingIOError:
                return
            except OSError:
                self._forget_client()

    def _forget_client(self) -> None:
        os.close(self.client)
        self.client, self._unsent = -1, b""

    def _serve_client(self, event: int) -> None:
        if event & select.POLLOUT:
            self._flush()
        if self.client < 0 or not event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            arrived = self._reader.read()
        except BlockingIOError:
            return
        if arrived is None:
            self._forget_client()
            return
        for kind, payload in arrived:
            if kind == frames.STDIN:
                self._take_input(payload)
            elif kind == frames.RESIZE:
                self._resize(payload)
            elif kind == frames.SIGNAL:
                for number in _numbers(payload, count=1, largest=64):
                    os.kill(self._pid, number)

    def _take_input(self, payload: bytes) -> None:
        """Feed the process what the user typed; an empty payload says that there will be no more."""
        if self._input < 0:
            return
        self._unfed += payload
        self._input_ends = self._input_ends or not payload
        self._feed()

    def _feed(self) -> None:
        try:
            while self._unfed:
                self._unfed = self._unfed[os.write(self._input, self._unfed) :]
        except BlockingIOError:
            return
        except OSError:  # the process has closed its input
            self._unfed, self._input_ends = b"", True
        if self._input_ends and not self._tty:
            os.close(self._input)
            self._input = -1

    def _resize(self, payload: bytes) -> None:
        size = _numbers(payload, count=2, largest=0xFFFF)
        if size and self._tty and self._input >= 0:
            fcntl.ioctl(self._input, _TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def _numbers(payload: bytes, count: int, largest: int) -> list[int]:
    """So many numbers from 0 to `largest`, in JSON; none for anything else that a client may say."""
    try:
        value = parse(payload)
    except IntegrityError:
        return []
    numbers = value if isinstance(value, list) else [value]
    good = len(numbers) == count and all(type(number) is int and 0 <= number <= largest for number in numbers)
    return numbers if good else []
