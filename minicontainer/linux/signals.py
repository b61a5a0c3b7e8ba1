"""Signals: their numbers, holding them back (sigprocmask(2)), reading them from a descriptor (signalfd(2)).

Layer: linux.

Python's `signal` costs a start 3 ms, and runs handlers between any two instructions; a descriptor in a poll loop does
neither.
"""

from __future__ import annotations

import os
import struct

from . import _libc
from ._libc import addressof, check

# In the order of their numbers, from 1 (signal(7), x86 and arm).
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG"
    " XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()
SIGNALS = {name: number for number, name in enumerate(_NAMES, start=1)}
"""Signal name without SIG -> number."""

# Real-time signals have no names of their own; the C library keeps the first two for itself (signal(7)).
_RTMIN, _RTMAX = 34, 64

SIG_BLOCK = 0
SIG_UNBLOCK = 1
SIG_SETMASK = 2
_SIG_IGN = 1
_SFD_CLOEXEC = 0o2000000
_SIGINFO_SIZE = 128


def signal_number(word: str) -> int:
    """The number of a signal given as TERM, SIGTERM, sigterm, 15 or RTMIN+3. Raises ValueError for anything else."""
    name = word.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    for start, base, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        if name.startswith(start):
            steps = name[len(start) :].removeprefix("+" if sign > 0 else "-") or "0"
            name = str(base + sign * int(steps)) if steps.isascii() and steps.isdecimal() else ""
            return _checked(name, word, _RTMIN)
    return _checked(word, word, 1)


def _checked(digits: str, word: str, least: int) -> int:
    if digits.isascii() and digits.isdecimal() and least <= int(digits) <= _RTMAX:
        return int(digits)
    raise ValueError(word)


def _signal_set(numbers: tuple[int, ...]) -> _libc.SignalSet:
    mask = _libc.SignalSet()
    for number in numbers:
        mask[(number - 1) // 8] |= 1 << (number - 1) % 8
    return mask


def block_signals(numbers: tuple[int, ...], how: int = SIG_BLOCK) -> None:
    """Hold signals back from this thread, or with SIG_SETMASK hold back these only: sigprocmask(2)."""
    mask = _signal_set(numbers)
    check(_libc.sigprocmask(how, addressof(mask), None))


def reset_signals() -> None:
    """Give every signal its default action, and hold none back, as a new program expects it (signal(7)).

    Python ignores SIGPIPE, and a parent may have ignored more; an exec would hand that on.
    """
    for number in range(1, 65):
        _libc.signal(number, None)  # SIGKILL, SIGSTOP and the C library's own two refuse, and have no other action
    block_signals((), how=SIG_SETMASK)


def ignore_broken_pipes() -> None:
    """Have a write that nobody will read fail with EPIPE; SIGPIPE's default would kill the writer (pipe(7))."""
    _libc.signal(SIGNALS["PIPE"], _SIG_IGN)


def signalfd(numbers: tuple[int, ...]) -> int:
    """A descriptor that becomes readable when one of these (blocked) signals arrives: signalfd(2)."""
    mask = _signal_set(numbers)
    return check(_libc.signalfd(-1, addressof(mask), _SFD_CLOEXEC))


def read_signal(descriptor: int) -> int:
    """The number of the next signal from a signalfd."""
    (number,) = struct.unpack_from("I", os.read(descriptor, _SIGINFO_SIZE))
    return int(number)
