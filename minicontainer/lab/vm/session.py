"""One run of QEMU: its process, its console, its memory over time.

Layer: lab.vm (imports console, supervisor's path, measure). One thread a run reads all that comes from the machine:

    report    the supervisor's standard output      pid, and at last the status
    console   QEMU's standard output                the guest's serial port ──▶ Console
    errors    QEMU's standard error                 what it complains of
    monitor   a socket, QMP                         its greeting: the machine is built and about to run: "hypervisor"

Rules: the thread alone changes what is known, under the lock; everyone else takes copies. It ends when QEMU and its
supervisor have ended and all they said is read. `stop` is a byte to the supervisor; whether that is still there doesn't
matter.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...errors import HostError
from ..measure import Milestone, Sample, pss
from .console import KERNEL, Console
from .init import USERSPACE

HYPERVISOR = "hypervisor"
SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))
_INTERVAL = 0.14
"""Seconds from one sample of the memory to the next."""
_GRACE = 10.0
"""Seconds that the supervisor has to end QEMU, which it does by SIGKILL."""


class Session:
    """A QEMU that runs, or has run. Made running: `command` is called with the number of the monitor's descriptor."""

    def __init__(self, command: Callable[[int], list[str]], tag: str, boot_limit: float) -> None:
        """`boot_limit`: seconds until userspace, after which the machine counts as hung. Raises HostError."""
        self._began = time.perf_counter()
        self.changed = threading.Condition()
        self.console = Console(tag)
        self.samples: list[Sample] = []
        self.complaint = ""
        """What QEMU wrote on its standard error."""
        self.pid = 0
        """QEMU's process id; 0 before it runs and after it was reaped."""
        self.status: int | None = None
        """QEMU's wait status."""
        self.ended = self.stopped = self.hung = False
        self._boot_limit = boot_limit
        self._report = b""
        self._streams: dict[int, Callable[[bytes], None]] = {}
        self._process = self._spawn(command)
        self._thread = threading.Thread(target=self._watch, name="virtual machine", daemon=True)
        self._thread.start()

    def _spawn(self, command: Callable[[int], list[str]]) -> subprocess.Popen[bytes]:
        console, console_end = os.pipe()
        errors, errors_end = os.pipe()
        monitor, monitor_end = socket.socketpair()
        theirs = (console_end, errors_end, monitor_end.fileno())
        arguments = [str(os.getpid()), str(console_end), str(errors_end), *command(monitor_end.fileno())]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", SUPERVISOR, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=theirs,
                start_new_session=True,  # a Ctrl-C in the terminal isn't meant for it
                bufsize=0,
            )
        except OSError as error:
            for descriptor in (console, errors):
                os.close(descriptor)
            monitor.close()
            raise HostError(f"can't start a process for the virtual machine: {error.strerror}") from None
        finally:
            os.close(console_end)
            os.close(errors_end)
            monitor_end.close()
        assert process.stdout is not None
        self._streams = {
            os.dup(process.stdout.fileno()): self._on_report,
            console: self._on_console,
            errors: self._on_errors,
            monitor.detach(): self._on_monitor,
        }
        process.stdout.close()
        return process

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return time.perf_counter() - self._began

    def stop(self) -> None:
        """End QEMU and reap it. Returns when nothing of it is left."""
        with self.changed:
            self.stopped = self.stopped or not self.ended
        self._tell_to_stop()
        self._thread.join(_GRACE)
        if self._thread.is_alive():
            self._process.kill()  # then the kernel ends QEMU
            self._thread.join(_GRACE)

    def _tell_to_stop(self) -> None:
        # A byte, not only the end of the pipe: a child that somebody forked may hold another copy of our end.
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it ended before, or was told before
            os.write(self._process.stdin.fileno(), b"\n")

    def _watch(self) -> None:
        sampled = 0.0
        with selectors.DefaultSelector() as selector:
            for descriptor in self._streams:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(max(0.0, sampled + _INTERVAL - self.seconds)):
                    if not self._read(key.fd):
                        selector.unregister(key.fd)
                        os.close(key.fd)
                if self.seconds >= sampled + _INTERVAL:
                    sampled = self.seconds
                    self._sample()
        self._finish()

    def _read(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, 1 << 16)
        except ConnectionResetError:  # the monitor's, if QEMU was killed
            data = b""
        if data:
            with self.changed:
                self._streams[descriptor](data)
                self.changed.notify_all()
        return bool(data)

    def _on_console(self, data: bytes) -> None:
        self.console.feed(data, self.seconds)

    def _on_errors(self, data: bytes) -> None:
        self.complaint = (self.complaint + data.decode(errors="replace"))[-4096:]

    def _on_monitor(self, _: bytes) -> None:
        self.console.reach(HYPERVISOR, self.seconds)

    def _on_report(self, data: bytes) -> None:
        self._report += data
        for line in self._report.split(b"\n")[:-1]:
            word, _, number = line.partition(b" ")
            if word == b"pid":
                self.pid = int(number)
            elif word == b"status":
                self.status, self.pid = int(number), 0

    def _sample(self) -> None:
        with contextlib.suppress(OSError):  # it is just ending
            if self.pid:
                sample = Sample(self.seconds, pss(self.pid))
                with self.changed:
                    self.samples.append(sample)
        if self.seconds > self._boot_limit and not self.hung and not self.console.has(USERSPACE):
            self.hung = True
            self._tell_to_stop()

    def _finish(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        with self.changed:
            self.console.end(self.seconds)
            self.pid, self.ended = 0, True
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `condition`, or the end of the session, or `timeout` seconds. Whether the condition holds."""
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.ended, timeout)
            return condition()

    def milestones(self) -> tuple[Milestone, ...]:
        """What was reached so far, in its order."""
        with self.changed:
            return tuple(self.console.milestones)


def explain(session: Session, memory_mb: int) -> str:
    """Why a session that ended didn't go well, in one sentence; "" if it did, or was stopped."""
    console = session.console
    small = f"the guest's memory ({memory_mb} MiB) is too small"
    panicked = "the guest's kernel panicked"
    if console.panic:
        return f"{small if 'memory' in console.panic else panicked}: {console.panic}"
    if console.failure:
        return f"the guest couldn't be set up: {console.failure}"
    if console.exit_code:
        if console.killed:
            return f"{small}: its kernel killed {console.killed} of the workload's processes"
        if console.unrunnable:
            return f"the image's command can't be run (exit code {console.exit_code}): {console.unrunnable}"
    if session.hung:
        latest = f"; the last line was: {console.latest}" if console.latest else ""
        return f"the guest didn't reach userspace in time, and was ended{latest}"
    if console.exit_code is not None or session.stopped or not session.ended:
        return ""
    if session.complaint.strip():
        latest = session.complaint.strip().splitlines()[-1]
        return f"QEMU failed: {latest.partition(': ')[2] or latest}"  # it begins with its own name
    if session.status is None:
        return "QEMU was ended by somebody else, with its supervisor"
    if os.WIFSIGNALED(session.status):
        return f"QEMU was ended by somebody else ({signal.Signals(os.WTERMSIG(session.status)).name})"
    if not console.has(KERNEL):
        return f"the guest's kernel never spoke: {memory_mb} MiB may be too few for it"
    return f"the virtual machine ended before its workload did; its last line: {console.latest}"
