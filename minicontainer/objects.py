r"""Containers and images as Python objects, in docker-py's vocabulary.

Layer: engine (beside `engine.py`, whose verbs these objects speak).

    engine.containers.run("busybox", ["echo", "hello"])                  b"hello\n"
    engine.containers.run("busybox", ["sleep", "100"], detach=True)      Container
    engine.containers.get("name")     .list(all=True)
    engine.images.get("busybox")      .list()
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload

from . import linux
from .engine import STOP_TIMEOUT, Engine
from .errors import InvalidArgument, MinicontainerError, StartFailed
from .images import Image
from .inspection import inspect_container
from .runtime import frames
from .runtime.logs import STDERR
from .runtime.spec import Options


class ContainerError(MinicontainerError):
    """A container that was run to its end ended with another exit code than 0."""

    def __init__(self, message: str, hint: str = "", exit_status: int = 1, stderr: bytes = b"") -> None:
        super().__init__(message, hint)
        self.exit_status = exit_status
        self.stderr = stderr

    def __reduce__(self) -> tuple[type[ContainerError], tuple[object, ...]]:
        """Keep the exit code and the error output when the error is pickled."""
        return type(self), (self.message, self.hint, self.exit_status, self.stderr)


class ExecResult(NamedTuple):
    """What became of a process run in a container."""

    exit_code: int
    output: bytes


def _drain(client: int) -> tuple[int, bytes, bytes]:
    """Read a process's output to its end: exit code, stdout, stderr."""
    streams = {frames.STDOUT: bytearray(), frames.STDERR: bytearray()}
    reader = frames.FrameReader(client)
    try:
        while (arrived := reader.read()) is not None:
            for kind, payload in arrived:
                if kind == frames.REPORT:
                    return frames.exit_code(payload), bytes(streams[1]), bytes(streams[2])
                streams[kind] += payload
    finally:
        os.close(client)
    raise StartFailed("the monitor of the process was killed")


def _words(command: str | Sequence[str] | None) -> tuple[str, ...]:
    if command is None:
        return ()
    if isinstance(command, str):
        import shlex  # not on the way of a command line

        return tuple(shlex.split(command))
    return tuple(command)


def _environment(environment: Mapping[str, str] | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(environment, Mapping):
        return tuple(f"{name}={value}" for name, value in environment.items())
    return tuple(environment or ())


class Container:
    """One container. What it tells is asked of the kernel and the state folder at that moment."""

    def __init__(self, engine: Engine, identifier: str) -> None:
        self._engine = engine
        self.id = identifier

    def __repr__(self) -> str:
        return f"<Container: {self.short_id}>"

    def _repr_html_(self) -> str:
        from html import escape

        state = self._engine.state_of(self.id)
        cells = (self.short_id, state["image"], state["status"], state["name"])
        row = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        return f"<table><tr><th>container</th><th>image</th><th>status</th><th>name</th></tr><tr>{row}</tr></table>"

    @property
    def short_id(self) -> str:
        """The first 12 digits of the ID."""
        return self.id[:12]

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self._engine.state_of(self.id)["name"])

    @property
    def status(self) -> str:
        """created, running or exited (runtime/lifecycle.py)."""
        return str(self._engine.state_of(self.id)["status"])

    @property
    def attrs(self) -> dict[str, Any]:
        """All about it, as `minicontainer inspect` shows it."""
        return inspect_container(self._engine, self.id)

    @property
    def pid(self) -> int:
        """The host's number of the container's first process; 0 when it isn't running."""
        state = self._engine.state_of(self.id)
        return int(state["first"][0]) if state["status"] == "running" else 0

    @property
    def monitor_pid(self) -> int:
        """The number of the monitor process; 0 when the container isn't running."""
        state = self._engine.state_of(self.id)
        return int(state["monitor"][0]) if state["status"] == "running" else 0

    def memory_usage(self) -> int:
        """Bytes of memory on the account of the container's cgroup."""
        return self._engine.cgroup(self.id).memory_usage()

    def processes(self) -> list[int]:
        """The host's numbers of all processes in the container."""
        return self._engine.cgroup(self.id).processes()

    def logs(self, stdout: bool = True, stderr: bool = True) -> bytes:
        """What it has written so far."""
        entries = self._engine.logs(self.id)
        return b"".join(data for name, data, _ in entries if (stderr if name == STDERR else stdout))

    def follow(self) -> Iterator[bytes]:
        """What it writes, line after line, from the first one until it has ended (docker-py: logs(stream=True))."""
        return (data for _, data, _ in self._engine.logs(self.id, follow=True))

    def start(self) -> None:
        """Start it. Raises WrongState, CommandNotFound, CommandNotExecutable, StartFailed."""
        os.close(self._engine.start(self.id))

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Ask it to end, and after `timeout` seconds kill it."""
        self._engine.stop(self.id, timeout)

    def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to its first process. Raises WrongState."""
        try:
            number = linux.signal_number(str(signal))
        except ValueError:
            raise InvalidArgument(f"invalid signal: {signal}") from None
        self._engine.kill(self.id, number)

    def wait(self, timeout: float | None = None) -> dict[str, int]:
        """Wait until it has ended: {"StatusCode": …}. Raises TimeoutError after `timeout` seconds."""
        code = self._engine.wait(self.id, timeout)
        if code is None:
            raise TimeoutError(f"container {self.short_id} has not ended within {timeout} seconds")
        return {"StatusCode": code}

    def remove(self, force: bool = False) -> None:
        """Delete it and all that it wrote; `force` kills it first."""
        self._engine.remove(self.id, force)

    def exec_run(
        self,
        cmd: str | Sequence[str],
        environment: Mapping[str, str] | Sequence[str] | None = None,
        workdir: str = "",
        user: str = "",
    ) -> ExecResult:
        """Run another process in it, to its end."""
        options = Options(
            command=_words(cmd), environment=_environment(environment), working_directory=workdir, user=user
        )
        code, stdout, stderr = _drain(self._engine.exec(self.id, options))
        return ExecResult(code, stdout + stderr)


class ContainerCollection:
    """All containers of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        name: str = "",
        environment: Mapping[str, str] | Sequence[str] | None = None,
        **options: Any,
    ) -> Container:
        """Make a container without starting it. `options` are the fields of runtime.spec.Options."""
        chosen = Options(command=_words(command), environment=_environment(environment), **options)
        return Container(self._engine, self._engine.create(image, chosen, name))

    @overload
    def run(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        detach: Literal[True],
        remove: bool = False,
        **options: Any,
    ) -> Container: ...

    @overload
    def run(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        detach: Literal[False] = False,
        remove: bool = False,
        **options: Any,
    ) -> bytes: ...

    def run(
        self,
        image: str,
        command: str | Sequence[str] | None = None,
        *,
        detach: bool = False,
        remove: bool = False,
        **options: Any,
    ) -> Container | bytes:
        """Start a new container: a Container with `detach`, else its standard output, once it has ended.

        Raises ContainerError for an exit code other than 0, and whatever `create` and `start` raise.
        """
        container = self.create(image, command, auto_remove=remove, **options)
        try:
            client = self._engine.start(container.id, attached=not detach)
        except MinicontainerError:
            if remove:
                container.remove()
            raise
        if detach:
            os.close(client)
            return container
        try:
            code, stdout, stderr = _drain(client)
        except KeyboardInterrupt:  # a notebook's Stop button
            if remove:
                container.remove(force=True)
            raise
        if code:
            raise ContainerError(
                f"command {command!r} in image {image} ended with exit code {code}",
                hint=stderr.decode(errors="replace").strip(),
                exit_status=code,
                stderr=stderr,
            )
        return stdout

    def get(self, name: str) -> Container:
        """The container of this name, ID, or beginning of an ID. Raises ContainerNotFound."""
        return Container(self._engine, self._engine.find(name))

    def list(self, all: bool = False) -> list[Container]:  # noqa: A002 - docker-py calls it so
        """The containers that run, or all; newest first."""
        return [Container(self._engine, state["id"]) for state in self._engine.states(all)]


class ImageCollection:
    """All images of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, name: str) -> Image:
        """The image of this name or ID. Raises ImageNotFound."""
        return self._engine.store.resolve(name)

    def remove(self, name: str, force: bool = False) -> list[str]:
        """Remove a name, and the contents that nothing names any more; the lines say what went."""
        return self._engine.remove_image(name, force)

    def list(self) -> list[Image]:
        """All images, each once for every name it has."""
        return self._engine.store.list()
