"""Starters: the two ways to fork a monitor.

Layer: runtime.

    DirectStarter      forks from this very process: for the command line, which has one thread
    LauncherStarter    has a fresh, single-threaded process do it, and keeps that warm: for notebooks and other
                       programs with threads, in which a fork is a trap

The launcher is `python -I -S -c … serve(fd)`: it imports nothing but the engine, so that it stays small and forks
fast. It reads requests from a socket, each a pickled `Request` with the client's socket and the container's lock as
passed descriptors (unix(7), SCM_RIGHTS), and ends when the other side is closed. The monitors that it forked live on.
"""

from __future__ import annotations

import os
import sys

from .monitor import Request, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from subprocess import Popen


class DirectStarter:
    """Forks monitors from the calling process, which must have one thread."""

    def start(self, request: Request, client: int, lock: int = -1) -> None:
        """Fork a monitor for `request`."""
        spawn(request, client, lock)

    def close(self) -> None:
        """Nothing to close."""


class LauncherStarter:
    """Starts a launcher process when it is first needed, and again should it have been killed."""

    def __init__(self) -> None:
        self._process: Popen[bytes] | None = None
        self._socket: socket | None = None

    def start(self, request: Request, client: int, lock: int = -1) -> None:
        """Have the launcher fork a monitor for `request`."""
        # late: the command line never comes here
        import pickle
        import socket

        descriptors = [client, lock] if lock >= 0 else [client]
        message = pickle.dumps(request)
        packet = len(message).to_bytes(4, "big") + message
        for last_try in (False, True):
            try:
                channel = self._connection()
                sent = socket.send_fds(channel, [packet], descriptors)
                channel.sendall(packet[sent:])
                return
            except (BrokenPipeError, ConnectionResetError):
                self.close()
                if last_try:
                    raise

    def _connection(self) -> socket:
        import socket
        import subprocess

        if self._socket is None:
            ours, theirs = socket.socketpair()
            package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            code = (
                f"import sys; sys.path.insert(0, {package!r}); "
                f"from minicontainer.runtime.launcher import serve; serve({theirs.fileno()})"
            )
            command = [os.path.realpath(sys.executable), "-I", "-S", "-c", code]
            with theirs:
                # A session of its own: an interrupt meant for the notebook's cell is not meant for it.
                self._process = subprocess.Popen(
                    command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
                )
            self._socket = ours
        return self._socket

    def close(self) -> None:
        """End the launcher. Containers aren't touched."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.wait()
            self._process = None


def serve(descriptor: int) -> None:
    """The launcher's loop: a request in, a monitor out, until the other side is closed."""
    import gc
    import pickle
    import socket

    from .. import linux

    linux.set_process_name("mc-launcher")
    gc.freeze()  # what is there now lives as long as this process; untouched, its pages stay shared with the monitors
    channel = socket.socket(fileno=descriptor)
    while True:
        packet, descriptors, _, _ = socket.recv_fds(channel, 65536, 2)
        if not packet:
            return
        while len(packet) < 4 or len(packet) < 4 + int.from_bytes(packet[:4], "big"):
            packet += channel.recv(65536)
        # From our own parent, over a socket pair that nobody else has.
        spawn(pickle.loads(packet[4:]), *descriptors)  # noqa: S301
        for passed in descriptors:
            os.close(passed)
        _reap()


def _reap() -> None:
    """Take note of monitors that have ended: none may stay behind as a zombie for long."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
