"""The stopwatch: a small process of its own that starts every measured command in the same, cheapest way.

Layer: lab.bench, and alone in it: a program, run as `python -I -S stopwatch.py`, that imports nothing of the package.

    standard input    a request, JSON on a line: {"command": [PATH, …], "environment": {…}, "limit": seconds}
    standard output   its answer: {"began": ns, "ended": ns, "status": code, "output": "…", "errors": "…"}

`began` is CLOCK_MONOTONIC just before posix_spawn(3), which neither copies the address space nor runs any Python in
the child, so that a start costs the same whatever this process holds; `ended` the same clock when the command has been
waited for. What it printed is read after that: nobody's reading of a pipe is in the time. A command that takes longer
than `limit` is killed, and its status is -9.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

_IGNORED = [signal.SIGPIPE, signal.SIGXFSZ]
"""What Python ignores, and what a command from a shell would not."""


def now() -> int:
    """CLOCK_MONOTONIC in nanoseconds, the clock that the timed program reads too."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def drain(descriptor: int) -> str:
    """What is in a pipe, without waiting for whoever may still hold its other end."""
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while piece := os.read(descriptor, 1 << 16):
            data += piece
    except BlockingIOError:
        pass
    os.close(descriptor)
    return data.decode(errors="replace")


def measure(command: list[str], environment: dict[str, str], limit: float) -> dict[str, object]:
    """Run one command to its end."""
    output, its_output = os.pipe()
    errors, its_errors = os.pipe()
    plumbing = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, its_output, 1),
        (os.POSIX_SPAWN_DUP2, its_errors, 2),
    ]
    began = now()
    pid = os.posix_spawn(command[0], command, environment, file_actions=plumbing, setsigmask=[], setsigdef=_IGNORED)
    handle = os.pidfd_open(pid)
    if not select.select([handle], [], [], limit)[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    ended = now()
    for descriptor in (handle, its_output, its_errors):
        os.close(descriptor)
    return {
        "began": began,
        "ended": ended,
        "status": os.waitstatus_to_exitcode(status),
        "output": drain(output),
        "errors": drain(errors),
    }


def main() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = measure(request["command"], request["environment"], request["limit"])
        except OSError as error:
            answer = {"began": 0, "ended": 0, "status": 127, "output": "", "errors": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
