"""QEMU's keeper: a small process that ends QEMU when it is told to, or when the notebook that wanted it is gone.

Layer: lab.vm; imports nothing of the package. Run as a program, `python -I -S supervisor.py`, never imported:

    notebook ──spawns──▶ supervisor ──spawns──▶ QEMU
       │ standard input: a byte, or its end        │ the signal that the kernel sends it when its parent dies
       │ the notebook's pidfd: it died             ▼
       └──▶ kill QEMU, reap it, end           killed too, if it is the supervisor that was killed

Arguments: the notebook's process id; the descriptors that become QEMU's standard output and error; QEMU's command.
Standard output: `pid N` once QEMU runs, `status N` when it was reaped (wait(2)'s status).

Why a process of its own: "the parent" of PR_SET_PDEATHSIG is the thread that forked (prctl(2)), and a notebook's kernel
starts QEMU in some thread that may end sooner. This process has one thread.
"""

from __future__ import annotations

import os
import select
import sys

SIGKILL = 9  # `signal` takes longer to import than all else here, and its time is the virtual machine's
DEATH = ("/usr/bin/setpriv", "--pdeathsig", "KILL")
"""Asks the kernel for the signal, and then becomes QEMU. Of util-linux, which Debian and Ubuntu always have."""


def spawn(command: list[str], output: int, errors: int) -> int:
    """Start QEMU, and give its process id. Further inheritable descriptors go to it as they are."""
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
        (os.POSIX_SPAWN_CLOSE, output),
        (os.POSIX_SPAWN_CLOSE, errors),
    ]
    if os.access(DEATH[0], os.X_OK):
        command = [*DEATH, *command]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions)


def wait_for_any(*descriptors: int) -> None:
    """Wait until one can be read, or has ended."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll()


def report(line: bytes) -> None:
    """Tell the notebook, if it is still there to hear it."""
    try:
        os.write(1, line)
    except BrokenPipeError:
        pass


def main(parent: int, output: int, errors: int, command: list[str]) -> None:
    """Supervise one QEMU."""
    watched = os.pidfd_open(parent)
    if os.getppid() != parent:
        return  # it died before we could watch it
    pid = spawn(command, output, errors)
    ended = os.pidfd_open(pid)
    try:
        report(b"pid %d\n" % pid)
        wait_for_any(0, watched, ended)
    finally:
        os.kill(pid, SIGKILL)  # not reaped yet: the number is still its own
        _, status = os.waitpid(pid, 0)
    report(b"status %d\n" % status)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
