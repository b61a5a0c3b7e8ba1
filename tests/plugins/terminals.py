"""A pseudoterminal with a command on it, for tests that do what a person at the keyboard does.

    with Terminal([…, "run", "-it", "busybox", "sh"]) as terminal:
        terminal.expect("/ # ")
        terminal.type("exit 7\n")
        assert terminal.wait() == 7

The other end of the terminal stays open in this process too, so that its settings can be looked at when the command is
gone. Whatever is waited for is waited for by looking, never by sleeping.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Any

SECONDS = 5


class Terminal:
    """The keyboard and the screen of one command, which leads a session of its own on this terminal."""

    def __init__(
        self, command: list[str], env: dict[str, str] | None = None, rows: int = 24, columns: int = 80, cwd: str = "/"
    ) -> None:
        self._here, self._there = os.openpty()
        self.resize(rows, columns)
        self.screen = ""
        """All that it has shown so far."""
        self._read_up_to = 0
        # setsid(1) makes the terminal the session's own, as a login does; then it becomes the command.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=self._there, stdout=self._there, stderr=self._there, env=env, cwd=cwd
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._there)
        os.close(self._here)

    def type(self, text: str) -> None:
        """Press keys: "\\x03" is Ctrl-C, "\\x1a" Ctrl-Z, "\\x04" Ctrl-D."""
        os.write(self._here, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows what matches `pattern`, after what was expected before."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.compile(pattern).search(self.screen, self._read_up_to)):
            rest = deadline - time.monotonic()
            seen, news = self.screen[: self._read_up_to][-200:], self.screen[self._read_up_to :]
            assert rest > 0, f"waited in vain for {pattern!r} after {seen!r}; on the screen is {news!r}"
            self._look(rest)
        self._read_up_to = found.end()
        return found

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as dragging a window's corner does; the kernel tells the foreground process (SIGWINCH)."""
        fcntl.ioctl(self._here, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[Any]:
        """How the terminal is set (termios(3)): speeds, flags, control characters."""
        return termios.tcgetattr(self._there)

    def is_raw(self) -> bool:
        """Does the terminal hand every key on as it is, without echo?"""
        return not self.settings()[3] & (termios.ICANON | termios.ECHO)

    def wait(self) -> int:
        """The exit code of the command, once it has ended. What it shows until then is read."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it doesn't end; on the screen is {self.screen[-500:]!r}"
            self._look(0.01)
        while self._look(0):
            pass
        return self.process.returncode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the command."""
        self.process.send_signal(number)

    def _look(self, seconds: float) -> bool:
        if not select.select([self._here], [], [], seconds)[0]:
            return False
        self.screen += os.read(self._here, 65536).decode("utf-8", "replace")
        return True
