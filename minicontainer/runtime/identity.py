"""Processes that can't be mistaken for others.

Layer: runtime. A process is written down as [pid, birth]: its number, and when it started in clock ticks since boot.
A number is given out again; both together never are. Every look or signal goes through a pidfd, which is then checked
against the birth.
"""

from __future__ import annotations

import os
import select

from .. import linux


def identity_of(pid: int) -> list[int]:
    """[pid, birth] of a process that is there."""
    return [pid, linux.birth_of(pid)]


def is_alive(process: list[int]) -> bool:
    """Whether this very process is there, and no zombie."""
    pid, birth = process
    return pid > 0 and birth > 0 and linux.birth_of(pid) == birth


def _open(process: list[int]) -> int:
    """A pidfd of the process, or -1 where it has ended."""
    try:
        pidfd = os.pidfd_open(process[0]) if process[0] > 0 else -1
    except ProcessLookupError:
        return -1
    if pidfd >= 0 and not is_alive(process):
        os.close(pidfd)
        return -1
    return pidfd


def send_signal(process: list[int], number: int) -> bool:
    """Signal the process; False when it has ended."""
    pidfd = _open(process)
    if pidfd < 0:
        return False
    try:
        linux.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def wait_for_end(process: list[int], timeout: float | None = None) -> bool:
    """Whether the process has ended, within `timeout` seconds (None: wait for ever). It needs to be nobody's child."""
    pidfd = _open(process)
    if pidfd < 0:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))
    finally:
        os.close(pidfd)
