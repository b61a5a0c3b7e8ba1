"""The monitor: the small process that stays with a container, or with a process executed in one, to its end.

Layer: runtime. Forked by whoever starts a container (the command itself, or the warm launcher), and then on its own:
in a session of its own, with nothing inherited but the descriptors below. So the death of a command, a notebook or
the launcher never reaches a container. The other way round the kernel sees to it: when a monitor dies, its container
does too.

    1. perform the plan up to the exec          on failure: say so and leave
    2. write down that the container runs, let the exec happen, report it to the client
    3. pump: container's output → log and client; client's input → container
    4. the process has ended: drain, give back the cgroup, write down exit code and OOM kill, tell the client

"""

from __future__ import annotations

import os

from .. import linux
from ..documents import render
from ..errors import MinicontainerError
from ..isolation.cgroups import Cgroup
from ..paths import Paths
from ..step import Site
from ..values import Value
from . import frames
from .identity import identity_of
from .lifecycle import EXITED, RUNNING
from .logs import LogWriter, timestamp
from .perform import Performance
from .plan import Plan
from .pump import Pump
from .state import Containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Request(Value):
    """What a monitor is asked to do. `identifier` is a container's; `record` is false for exec: no trace is kept."""

    plan: Plan
    paths: Paths
    identifier: str
    cgroup: Cgroup
    tty: bool = False
    stdin: bool = False
    attached: bool = False
    record: bool = True


def spawn(request: Request, client: int, lock: int = -1) -> int:
    """Fork a monitor, and return its process id. The caller has one thread, and reaps it or is short-lived.

    `client` is a stream socket that gets the report; `lock`, held by the caller, stays held until the container runs.
    """
    pid = os.fork()
    if pid == 0:
        stand_alone({client, lock})
        monitor(request, client, lock)
    return pid


def monitor(request: Request, client: int, lock: int = -1) -> NoReturn:
    """Be a monitor, in a process that stands alone."""
    code = 1
    try:
        code = Monitor(request, client, lock).run()
    except BaseException as error:  # noqa: BLE001 - a copy of the caller must never go on from here
        frames.write_all(client, frames.frame(frames.REPORT, render({"failed": repr(error), "hint": "", "kind": ""})))
    os._exit(code)


def stand_alone(kept: set[int]) -> None:
    """Leave the caller's session, terminal and signal settings, and close all descriptors but these."""
    os.setsid()
    linux.reset_signals()
    linux.ignore_broken_pipes()  # neither a client that leaves nor a program that closes its input may end a monitor
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    first = 3
    for descriptor in sorted(kept):
        if first < descriptor:
            linux.close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    linux.close_range(first)
    os.chdir("/")
    linux.set_process_name("mc-monitor")


class Monitor:
    """One container's, or one executed process's, companion."""

    def __init__(self, request: Request, client: int, lock: int) -> None:
        self.request = request
        self.lock = lock
        self.site = Site()
        self.performance = Performance(request.plan, self.site, meanwhile=self._record_start)
        self.containers = Containers(request.paths)
        self.pump = Pump(client, request.attached)
        self.status_before = ""

    def run(self) -> int:
        """The whole of it. The exit code is 0 when the process was started, whatever became of it."""
        self.site.stdio = self.pump.open_pipes(request_input=self.request.stdin, tty=self.request.tty)
        try:
            self.performance.prepare()
            self.performance.commit()
        except MinicontainerError as error:
            self._record_failure(error)
            self.pump.report({"failed": error.message, "hint": error.hint, "kind": type(error).__name__})
            return 1
        for descriptor in set(self.site.stdio):
            os.close(descriptor)
        if self.site.terminal >= 0:
            self.pump.use_terminal(self.site.terminal)
        if self.lock >= 0:
            os.close(self.lock)
        self.pump.report({"started": self.site.pid})
        self.pump.run(self.site.pid)
        self._finish()
        return 0

    def _record_start(self) -> None:
        if not self.request.record:
            return
        self.pump.log = LogWriter(os.path.join(self.containers.folder(self.request.identifier), "log.jsonl"))
        state = self.containers.read(self.request.identifier)
        self.status_before = state["status"]
        state.update(
            status=RUNNING,
            first=identity_of(self.site.pid),
            monitor=identity_of(os.getpid()),
            startedAt=timestamp(),
            finishedAt="",
            exitCode=0,
            oomKilled=False,
            error="",
        )
        self.containers.write(state)

    def _record_failure(self, error: MinicontainerError) -> None:
        """Docker keeps a container that could not be started, as created, with the reason."""
        if self.request.record:
            state = self.containers.read(self.request.identifier)
            state.update(
                status=self.status_before or state["status"],
                first=[0, 0],
                monitor=[0, 0],
                exitCode=error.exit_code,
                error=error.message,
            )
            self.containers.write(state)

    def _finish(self) -> None:
        """Reap, give back, write down, tell."""
        _, status = os.waitpid(self.site.pid, 0)
        self.site.pid = 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        self.pump.close_log()
        if self.request.record:
            self._record_exit(code)
        self.pump.report({"exited": code})
        self.pump.finish()

    def _record_exit(self, code: int) -> None:
        identifier = self.request.identifier
        killed_for_memory = self.request.cgroup.exists() and self.request.cgroup.oom_kills() > 0
        self.performance.undo()
        with self.containers.lock(identifier):
            state = self.containers.read(identifier)
            state.update(
                status=EXITED,
                exitCode=code,
                finishedAt=timestamp(),
                oomKilled=killed_for_memory,
                error=self.pump.log_failure,
            )
            if state["autoRemove"]:
                self.containers.remove(state)
            else:
                self.containers.write(state)
