"""Signals: their numbers, holding them back (sigprocmask(2)), reading them from a descriptor (signalfd(2)).

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

_LARGEST = 64

SIG_BLOCK = 0
SIG_UNBLOCK = 1
SIG_SETMASK = 2
_SFD_CLOEXEC = 0o2000000
_SIGINFO_SIZE = 128


def signal_number(word: str) -> int:
    """The number of a signal given as TERM, SIGTERM, sigterm or 15. Raises ValueError for anything else."""
    name = word.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    if word.isascii() and word.isdecimal() and 1 <= int(word) <= _LARGEST:
        return int(word)
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


def signalfd(numbers: tuple[int, ...]) -> int:
    """A descriptor that becomes readable when one of these (blocked) signals arrives: signalfd(2)."""
    mask = _signal_set(numbers)
    return check(_libc.signalfd(-1, addressof(mask), _SFD_CLOEXEC))


def read_signal(descriptor: int) -> int:
    """The number of the next signal from a signalfd."""
    (number,) = struct.unpack_from("I", os.read(descriptor, _SIGINFO_SIZE))
    return int(number)
