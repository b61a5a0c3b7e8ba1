"""How this package calls the kernel: every prototype is declared here, once.

Layer: linux, the only place with ctypes.

Every wrapper in `linux` has one shape: encode the arguments, `check(function(…), about)`, give back plain Python
values. The C library answers -1 and sets errno; `check` turns that into OSError, here and nowhere else.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import _NamedFuncPointer
    from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
# Calls made through PyDLL keep the interpreter's lock: a raw clone must not let go of it, since the child has no other
# thread to hand it back.
libc_locked = ctypes.PyDLL(None, use_errno=True)


def _declare(name: str, *arguments: Any, result: Any = c_int) -> _NamedFuncPointer:
    function = libc[name]
    function.argtypes = arguments
    function.restype = result
    return function


mount = _declare("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
umount2 = _declare("umount2", c_char_p, c_int)
unshare = _declare("unshare", c_int)
setns = _declare("setns", c_int, c_int)
sethostname = _declare("sethostname", c_char_p, c_size_t)
prctl = _declare("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
socketpair = _declare("socketpair", c_int, c_int, c_int, POINTER(c_int))
socket = _declare("socket", c_int, c_int, c_int)
signal = _declare("signal", c_int, c_void_p, result=c_void_p)
sigprocmask = _declare("sigprocmask", c_int, c_void_p, c_void_p)
signalfd = _declare("signalfd", c_int, c_void_p, c_int)
syscall = _declare("syscall", c_long, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, result=c_long)

clone3_raw = libc_locked["syscall"]
clone3_raw.argtypes = (c_long, c_void_p, c_size_t)
clone3_raw.restype = c_long

# Numbers of the calls that the C library has no function for (asm/unistd.h): those from 424 on are the same everywhere.
_MACHINE = os.uname().machine
SYS_pivot_root = {"x86_64": 155}.get(_MACHINE, 41)
SYS_capset = {"x86_64": 126}.get(_MACHINE, 91)
SYS_pidfd_send_signal = 424
SYS_clone3 = 435
SYS_close_range = 436
SYS_openat2 = 437
SYS_pidfd_getfd = 438


class CloneArgs(ctypes.Structure):
    """struct clone_args of clone3(2)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup".split()
        )
    ]


class OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


class CapHeader(ctypes.Structure):
    """struct __user_cap_header_struct of capset(2)."""

    _fields_ = [("version", c_uint), ("pid", c_int)]


class CapData(ctypes.Structure):
    """struct __user_cap_data_struct of capset(2): 32 capabilities of each set."""

    _fields_ = [("effective", c_uint), ("permitted", c_uint), ("inheritable", c_uint)]


class SignalSet(ctypes.Array[ctypes.c_ubyte]):
    """sigset_t of the C library: 1,024 bits."""

    _type_ = ctypes.c_ubyte
    _length_ = 128


IntPair = c_int * 2
byref = ctypes.byref
sizeof = ctypes.sizeof
string_buffer = ctypes.create_string_buffer
addressof = ctypes.addressof


def check(result: int, about: str | bytes | None = None) -> int:
    """Hand `result` back, or raise the OSError that errno names; `about` is the file it is about."""
    if result == -1:
        number = ctypes.get_errno()
        if about is None:
            raise OSError(number, os.strerror(number))
        raise OSError(number, os.strerror(number), about)
    return result
