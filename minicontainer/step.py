"""A step: one thing that happens between an image and a running process.

Layer: bottom (imports nothing of the package but values).

A container is a plan, and a plan is a sequence of steps. A step is a frozen value, so that plans can be compared,
printed, sent to the launcher, cut and rearranged. The steps themselves live where their subject does: mounts in
`rootfs`, namespaces, cgroups and privileges in `isolation`, the exec in `runtime`.

    class SetHostname(Step):
        hostname: str
        side = CHILD
        manual = "sethostname(2)"
        def describe(self):      return f"hostname {quote(self.hostname)}"
        def execute(self, site): linux.sethostname(self.hostname)

Rules: `describe` is a command that a person can type into a root shell with the same effect; `execute` does it by
system calls and raises OSError; what a step acquires outside the process (a cgroup, a mount on the host), `undo`
gives back. What ends with the process by itself (its namespaces and the mounts in them) needs no undo.
"""

from __future__ import annotations

import os

from .values import Value

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", "'": "\\'"}

PARENT = "parent"
"""On the host's side of the wall: executed by the monitor."""

CHILD = "child"
"""On the container's side: executed by the process that becomes the container's first."""


class Site:
    """Where a plan is being performed: the few things that are known only then. Steps may read and set them."""

    def __init__(self) -> None:
        self.pid = 0
        """Parent's side: the child's process id, once it is there."""
        self.channel = -1
        """The descriptor to the other side."""
        self.stdio: tuple[int, int, int] = (0, 1, 2)
        """The descriptors that become the container's standard input, output and error."""
        self.root = -1
        """Child's side: a descriptor of the root file system to be, once it is mounted."""
        self.target = -1
        """For exec: a pidfd of the running container's first process."""
        self.terminal = -1
        """Child's side: the controlling end of the terminal, for the monitor to fetch."""
        self.environment: dict[str, str] = {}
        """Child's side: the environment of the program to be."""


class Step(Value):
    """One step of a plan. Subclasses add fields; `side` and `manual` belong to the class."""

    side = PARENT
    manual = ""

    @property
    def name(self) -> str:
        """The step's name, as errors and tables show it."""
        return type(self).__name__

    def describe(self) -> str:
        """The shell command (or commands, a line each) that would do the same."""
        raise NotImplementedError

    def execute(self, site: Site) -> None:
        """Do it. Raises OSError with the file or object in `filename` where there is one."""
        raise NotImplementedError

    def undo(self, site: Site) -> None:
        """Give back what `execute` acquired outside the process. Nothing, for most steps."""


def quote(text: str) -> str:
    """`text` as one word of a bash command, on one line whatever is in it (importing shlex costs a start 6 ms)."""
    if text and all(c.isascii() and (c.isalnum() or c in "@%+=:,./-_") for c in text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\"'\"'") + "'"
    return "$'" + "".join(map(_escape, text)) + "'"


def _escape(character: str) -> str:
    """One character inside $'…' (bash(1), QUOTING)."""
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
