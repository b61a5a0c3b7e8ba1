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

from .monitor import Request, monitor, spawn, stand_alone

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
        import threading  # a program with a launcher has threads, or may have

        self._process: Popen[bytes] | None = None
        self._socket: socket | None = None
        self._turn = threading.Lock()

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
                with self._turn:
                    channel = self._connection()
                    sent = socket.send_fds(channel, [packet], descriptors)
                    if sent < len(packet):  # nothing left: an error would only say that who took it has closed already
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
    """The launcher's loop, until the other side is closed: always one process ahead.

    The process that takes a request was forked before it came: a spare, all ready, waits for it. When it has one, it
    says so, and the next spare is made while it works. That takes the fork, 1.5 ms, out of every start.
    """
    import gc
    import socket

    from .. import linux

    linux.set_process_name("mc-launcher")
    gc.freeze()  # what is there now lives as long as this process; untouched, its pages stay shared with the monitors
    requests = socket.socket(fileno=descriptor)
    while True:
        taken, taking = os.pipe()
        if os.fork() == 0:
            os.close(taken)
            _be_a_spare(requests, taking)
        os.close(taking)
        another = os.read(taken, 1)  # nothing: the spare has ended, because there will be no more requests
        os.close(taken)
        _reap()
        if not another:
            return


def _be_a_spare(requests: socket, taking: int) -> None:
    """Wait for one request, and become its monitor. Never returns."""
    import pickle
    import socket

    stand_alone({requests.fileno(), taking})
    packet, descriptors, _, _ = socket.recv_fds(requests, 4, 2)
    size = 4 + int.from_bytes(packet, "big")
    while packet and len(packet) < size:  # not a byte more: it would be the next request's
        packet += requests.recv(size - len(packet))
    if not packet:
        os._exit(0)
    try:
        os.write(taking, b"1")
    except BrokenPipeError:  # the launcher has been killed, and this request is the last that somebody takes
        pass
    os.close(taking)
    requests.close()
    # From our own parent, over a socket pair that nobody else has.
    monitor(pickle.loads(packet[4:]), *descriptors)  # noqa: S301


def _reap() -> None:
    """Take note of monitors that have ended: none may stay behind as a zombie for long."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
