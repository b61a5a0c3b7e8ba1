"""A terminal, or pipes, joined to a running process: what `run` and `exec` do until it ends.

Layer: cli.

    this command's stdin  ──STDIN frames──▶ monitor ──▶ process
    its signals, its size ──SIGNAL, RESIZE─▶
    its stdout, stderr    ◀──── frames ──── monitor ◀── process

With a terminal on both sides, ours is set to raw: every key, Ctrl-C too, goes to the other one, which makes signals
of them for the process inside. Without, signals that reach this command are handed on. Only SIGKILL ends this command
and leaves the process running.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct

from .. import linux
from ..documents import render
from ..errors import MinicontainerError
from ..runtime import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIOCGWINSZ = 0x5413
_NOT_HANDED_ON = ("KILL", "STOP", "CHLD", "PIPE", "URG", "TSTP", "TTIN", "TTOU", "CONT", "SEGV", "BUS", "FPE", "ILL")
_FORWARDED = tuple(number for name, number in linux.SIGNALS.items() if name not in _NOT_HANDED_ON)
_WINCH = linux.SIGNALS["WINCH"]
_BROKEN_PIPE = 128 + linux.SIGNALS["PIPE"]


def hold_signals() -> None:
    """From here on signals wait until `Attachment` hands them on: none ends a command between creation and start."""
    linux.block_signals(_FORWARDED)


class Attachment:
    """This command's streams, joined to a monitor's."""

    def __init__(self, client: int, stdin: bool, tty: bool) -> None:
        self.client = client
        self.tty = tty
        self.signals = linux.signalfd(_FORWARDED)
        self.reader = frames.FrameReader(client)
        self.poll = select.poll()
        self.poll.register(client, select.POLLIN)
        self.poll.register(self.signals, select.POLLIN)
        if stdin:
            self.poll.register(0, select.POLLIN)

    def run(self) -> int:
        """Until the process has ended: its exit code."""
        saved = _make_raw() if self.tty else None
        try:
            if self.tty:
                self._send_size()
            return self._loop()
        except BrokenPipeError:  # nobody reads our output any more; the process goes on, as with Docker
            return _BROKEN_PIPE
        finally:
            if saved is not None:
                _restore(saved)

    def _loop(self) -> int:
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == 0:
                    self._send_input()
                elif descriptor == self.signals:
                    self._hand_on(linux.read_signal(self.signals))
                else:
                    code = self._take()
                    if code is not None:
                        return code

    def _take(self) -> int | None:
        """Write out what arrived; the exit code, once that is it."""
        arrived = self.reader.read()
        if arrived is None:
            raise MinicontainerError(
                "the container's monitor was killed, and the container with it", hint="minicontainer ps -a shows it"
            )
        for kind, payload in arrived:
            if kind == frames.REPORT:
                return frames.exit_code(payload)
            _write(1 if kind == frames.STDOUT else 2, payload)
        return None

    def _send_input(self) -> None:
        try:
            data = os.read(0, 65536)
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            self.poll.unregister(0)
        frames.write_all(self.client, frames.frame(frames.STDIN, data))

    def _hand_on(self, number: int) -> None:
        if number != _WINCH:
            frames.write_all(self.client, frames.frame(frames.SIGNAL, render(number)))
        elif self.tty:
            self._send_size()

    def _send_size(self) -> None:
        rows, columns = struct.unpack_from("HH", fcntl.ioctl(0, _TIOCGWINSZ, bytes(8)))
        if rows and columns:
            frames.write_all(self.client, frames.frame(frames.RESIZE, render([rows, columns])))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _make_raw() -> list[Any]:
    """Every key as it is, no echo, no line editing (cfmakeraw of termios(3)); the settings to go back to."""
    import termios  # only with a terminal
    import tty

    saved = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)
    return saved


def _restore(saved: list[Any]) -> None:
    import termios  # as above

    termios.tcsetattr(0, termios.TCSADRAIN, saved)
