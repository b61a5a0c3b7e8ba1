"""Sockets: a connected pair of them (socketpair(2)), and the one request that brings up the loopback interface.

Layer: linux.
"""

from __future__ import annotations

import fcntl
import os
import struct

from . import _libc
from ._libc import check

AF_UNIX = 1
AF_INET = 2
SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_SEQPACKET = 5
SOCK_CLOEXEC = 0o2000000

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def socketpair(kind: int = SOCK_SEQPACKET) -> tuple[int, int]:
    """Two connected Unix sockets, close-on-exec: socketpair(2). SOCK_SEQPACKET keeps the bounds of messages."""
    pair = _libc.IntPair()
    check(_libc.socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, pair))
    return pair[0], pair[1]


def bring_up(interface: str) -> None:
    """Set a network interface of this namespace up (SIOCSIFFLAGS of netdevice(7)): enough for the loopback."""
    descriptor = check(_libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))
    try:
        request = struct.pack("16sH22x", interface.encode(), 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(descriptor, _SIOCGIFFLAGS, request))
        fcntl.ioctl(descriptor, _SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), flags | _IFF_UP))
    finally:
        os.close(descriptor)
