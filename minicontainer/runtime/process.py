"""The last steps, of which the process itself comes out: its terminal, its folder, its environment, its exec.

Layer: runtime.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from .. import linux
from ..rootfs import open_inside
from ..step import CHILD, Site, Step, quote

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_TIOCSCTTY = 0x540E


class OpenTerminal(Step):
    """Open a pseudoterminal of the container's own /dev/pts, and make it standard input, output and error (pty(7)).

    The monitor fetches the other end from this process (perform.py). A container sees it as /dev/console too.
    """

    uid: int = 0
    make_console: bool = True

    side = CHILD
    manual = "pty(7), pts(4)"

    def describe(self) -> str:
        return ": # the terminal that you type this into serves"

    def execute(self, site: Site) -> None:
        root = site.root if site.root >= 0 else os.open("/", os.O_PATH | os.O_CLOEXEC)
        master = linux.openat2(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
        slave = linux.openat2(root, f"dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
        os.fchown(slave, self.uid, -1)
        if self.make_console:
            console = open_inside(root, "/dev/console", make="file")
            linux.mount(f"/proc/self/fd/{slave}", f"/proc/self/fd/{console}", "", linux.MS_BIND)
            os.close(console)
        fcntl.ioctl(slave, _TIOCSCTTY, 0)  # of the session that perform.py has made
        site.stdio = (slave, slave, slave)
        site.terminal = master


class AttachStdio(Step):
    """Put the three standard streams in place; without a terminal they are the monitor's pipes."""

    side = CHILD
    manual = "dup2(2), stdio(3)"

    def describe(self) -> str:
        return ": # standard input, output and error are this shell's"

    def execute(self, site: Site) -> None:
        for number, descriptor in enumerate(site.stdio):
            os.dup2(descriptor, number)  # inheritable, unlike its source


class ChangeDirectory(Step):
    """Enter the working directory, and make sure that it lies inside the root (CVE-2024-21626)."""

    path: str

    side = CHILD
    manual = "chdir(2)"

    def describe(self) -> str:
        return f"cd {quote(self.path)}"

    def execute(self, site: Site) -> None:
        os.chdir(self.path)
        # The kernel marks a folder that the root doesn't contain with "(unreachable)": getcwd(2).
        if not os.getcwd().startswith("/"):
            raise OSError(errno.EPERM, "the working directory is outside of the container's root", self.path)


class SetEnvironment(Step):
    """Give the process these environment variables and no other."""

    variables: tuple[str, ...]

    side = CHILD
    manual = "environ(7)"

    def describe(self) -> str:
        # env(1) takes any name, the shell's export only what can be a variable; bash adds three of its own.
        variables = " ".join(map(quote, self.variables))
        return f"exec $host usr/bin/env -i {variables} $host bin/bash --norc\nexport -n OLDPWD PWD SHLVL"

    def execute(self, site: Site) -> None:
        site.environment = dict(entry.partition("=")[::2] for entry in self.variables)


class Exec(Step):
    """Become the container's program: the same process, now with another memory."""

    arguments: tuple[str, ...]

    side = CHILD
    manual = "execve(2)"

    def describe(self) -> str:
        return "exec " + " ".join(map(quote, self.arguments))

    def execute(self, site: Site) -> None:
        # Nothing but the standard streams crosses into the container, whatever this process had open.
        linux.close_range(3, flags=linux.CLOSE_RANGE_CLOEXEC)
        os.umask(0o022)
        linux.reset_signals()
        self._exec(site.environment)

    def _exec(self, environment: dict[str, str]) -> None:
        """execvp(3) with the container's own PATH: the first candidate that can be executed wins."""
        program = self.arguments[0]
        if "/" in program:
            os.execve(program, self.arguments, environment)
        denied = False
        path = environment.get("PATH", "")
        for folder in path.split(":") if path and program else ():
            candidate = os.path.join(folder or ".", program)
            try:
                os.execve(candidate, self.arguments, environment)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError:
                denied = True
        number = errno.EACCES if denied else errno.ENOENT
        raise OSError(number, os.strerror(number) if denied else "executable file not found in $PATH", program)
