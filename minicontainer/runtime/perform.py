"""Performing a plan: both sides of the wall, and what they say to each other.

Layer: runtime. Runs in the monitor, which has one thread.

The parent walks the plan. At `CloneIntoNamespaces` the child appears; from then on runs of steps that belong to the
child are handed over, and the parent waits for the answer before it goes on. Messages are JSON, one a packet:

    parent → child   {"perform": index}              perform your steps until before this one
    child → parent   {"done": index}                 they are done
                     {"terminal": descriptor}        fetch this descriptor from me
                     {"failed": index, "errno": …, "strerror": …, "filename": …}

The last step is the exec. The parent holds it back until it has written down that the container runs, so that none
ever runs unrecorded. The exec succeeds without a word: it closes the channel.

When a step fails, the parent ends the child and undoes its own steps, last first.
"""

from __future__ import annotations

import os
import select

from .. import linux
from ..documents import parse, render
from ..errors import CommandNotExecutable, CommandNotFound, HostError, MinicontainerError, StartFailed
from ..isolation import CloneIntoNamespaces
from ..step import CHILD, Site
from .plan import Plan
from .process import Exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PACKET = 65536
_FOLDER = "--workdir is a folder inside the container; a missing one is made by run, not by exec"
_HINTS = {
    "MountOverlay": "minicontainer doctor tells whether overlay works here, and what to do if not",
    "CloneIntoNamespaces": "minicontainer doctor tells which namespaces this machine allows",
    "MapUsers": "minicontainer doctor tells what bars user namespaces here, and how to lift it",
    "MakeWorkingDirectory": _FOLDER,
    "ChangeDirectory": _FOLDER,
    "SetHostname": "a host name has 64 characters at most",
    "SetLimit": "the kernel refuses this value, or has not got as much",
}
_HINT = "minicontainer run --dry-run shows every step as a command to try"


class Performance:
    """One performance of a plan: `prepare` brings it up to its last step, `commit` performs that one."""

    def __init__(self, plan: Plan, site: Site, meanwhile: Callable[[], None]) -> None:
        self.plan = plan
        self.site = site
        self._meanwhile = meanwhile
        self._undo: list[int] = []

    def prepare(self) -> None:
        """Perform all steps but the last. Raises StartFailed, with everything undone, when one fails.

        `meanwhile` is called once, while the child is busy with its last steps: with two processors it costs nothing.
        """
        index = 0
        while index < len(self.plan) - 1:
            step = self.plan[index]
            try:
                if step.side == CHILD:
                    index = self._hand_over(index)
                    continue
                if isinstance(step, CloneIntoNamespaces):
                    self._clone(index)
                else:
                    step.execute(self.site)
            except OSError as error:
                self.undo()
                raise self._explain(index, error) from None
            except MinicontainerError:
                self.undo()
                raise
            self._undo.append(index)
            index += 1

    def commit(self) -> None:
        """Let the child exec. Raises CommandNotFound, CommandNotExecutable or StartFailed, with everything undone."""
        last = len(self.plan) - 1
        try:
            self._send({"perform": last + 1})
            self._receive(exec_is_due=True)
        except OSError as error:
            self.undo()
            raise self._explain(last, error) from None
        except StartFailed:
            self.undo()
            raise
        self._hang_up()

    def undo(self) -> None:
        """Give back what the parent's steps acquired, last first; a child that still lives is ended on the way."""
        self._hang_up()
        while self._undo:
            self.plan[self._undo.pop()].undo(self.site)

    def _hang_up(self) -> None:
        if self.site.channel >= 0:
            os.close(self.site.channel)
            self.site.channel = -1

    def _clone(self, index: int) -> None:
        """Perform the wall: what comes back from it is two processes."""
        ours, theirs = linux.socketpair()
        self.site.channel = ours
        try:
            self.plan[index].execute(self.site)
        except OSError:
            os.close(theirs)
            raise
        if self.site.pid == 0:
            os.close(ours)
            self.site.channel = theirs
            _be_the_child(self.plan, self.site)
        os.close(theirs)

    def _hand_over(self, index: int) -> int:
        """Have the child perform its steps from `index` on; the index of the first that isn't its, or of the last."""
        end = index
        while end < len(self.plan) - 1 and self.plan[end].side == CHILD:
            end += 1
        self._send({"perform": end})
        if end == len(self.plan) - 1:
            self._meanwhile()
        self._receive()
        return end

    def _send(self, message: dict[str, object]) -> None:
        try:
            os.write(self.site.channel, render(message))
        except BrokenPipeError:
            raise _killed() from None

    def _receive(self, exec_is_due: bool = False) -> None:
        """Read answers until the child is done, or has exec'd. Raises the OSError that it reports.

        The channel closes without a word at the exec, and before it only if the child is killed.
        """
        while True:
            packet = os.read(self.site.channel, _PACKET)
            if not packet and not exec_is_due:
                raise _killed()
            message = parse(packet) if packet else {"done": len(self.plan)}
            if "terminal" in message:
                pidfd = os.pidfd_open(self.site.pid)
                self.site.terminal = linux.pidfd_getfd(pidfd, message["terminal"])
                os.close(pidfd)
            elif "failed" in message:
                error = OSError(message["errno"], message["strerror"], message["filename"])
                raise _InChild(message["failed"], error)
            else:
                return

    def _explain(self, index: int, error: OSError) -> MinicontainerError:
        """Say which step failed on what, in words that a user understands."""
        if isinstance(error, _InChild):
            index, error = error.index, error.cause
        step = self.plan[index]
        about = f" {error.filename}" if error.filename else ""
        if isinstance(step, Exec):
            # Docker's words, and its exit codes: 127 not found, 126 found and not executable.
            missing = error.errno in (2, 20)
            kind = CommandNotFound if missing else CommandNotExecutable
            return kind(f'exec: "{step.arguments[0]}": {error.strerror}', hint=_exec_hint(error))
        if error.errno == 1 and os.geteuid() != 0:
            return HostError(
                f"this user may not do the step {step.name}:{about} {error.strerror}",
                hint=_HINTS.get(step.name, "run it with sudo"),
            )
        return StartFailed(f"step {step.name} failed:{about} {error.strerror}", hint=_HINTS.get(step.name, _HINT))


class _InChild(OSError):
    """An error that the child reported, with the step that it happened in."""

    def __init__(self, index: int, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror, cause.filename)
        self.index = index
        self.cause = cause


def _killed() -> StartFailed:
    return StartFailed(
        "the container's first process was killed before it could start the command",
        hint="if it has a memory limit, that is too small: give it more with --memory",
    )


def _exec_hint(error: OSError) -> str:
    if error.errno == 8:
        return "the file is no program for this machine: another architecture, or a script without its #! line"
    if error.errno in (2, 20):
        return "look what the image has: minicontainer run IMAGE ls /bin"
    return "the file needs the x permission, and can't be a folder"


def _be_the_child(plan: Plan, site: Site) -> None:
    """The child's side: perform what is asked for, until the exec. Never returns."""
    index = next(i for i, step in enumerate(plan) if isinstance(step, CloneIntoNamespaces)) + 1
    try:
        linux.die_with_parent()
        os.setsid()  # `kill 0` inside reaches the group of its sender: not the monitor's
        os.umask(0)
        while True:
            packet = os.read(site.channel, _PACKET)
            if not packet:  # the monitor is gone
                os._exit(1)
            until = parse(packet)["perform"]
            while index < until:
                if index == len(plan) - 1:
                    _stay_bound(site.channel)
                step = plan[index]
                if step.side == CHILD:
                    step.execute(site)
                    _offer_terminal(site)
                index += 1
            os.write(site.channel, render({"done": index}))
    except OSError as error:
        about = None if error.filename is None else os.fsdecode(error.filename)
        _last_words(site.channel, index, error.errno or 0, error.strerror or str(error), about)
    except BaseException as error:  # noqa: BLE001 - whatever it is: a second copy of the monitor must not go on
        _last_words(site.channel, index, 0, repr(error), None)
    os._exit(1)


def _last_words(channel: int, index: int, number: int, text: str, about: str | None) -> None:
    try:
        os.write(channel, render({"failed": index, "errno": number, "strerror": text, "filename": about}))
    except OSError:
        os._exit(1)  # nobody listens any more


def _offer_terminal(site: Site) -> None:
    if site.terminal >= 0:
        os.write(site.channel, render({"terminal": site.terminal}))
        site.terminal = -1


def _stay_bound(channel: int) -> None:
    """Die with the monitor. The change of user has undone the first such wish; the monitor may have died since."""
    linux.die_with_parent()
    poll = select.poll()
    poll.register(channel, 0)
    if any(event & select.POLLHUP for _, event in poll.poll(0)):
        os._exit(1)
