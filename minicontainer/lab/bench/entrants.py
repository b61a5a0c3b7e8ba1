"""Who is measured, how each is called, and why one is absent.

Layer: lab.bench (imports scene, clock, docker, results; the engine).

    plain                  the program itself, started by the stopwatch: the floor under all commands
    warm, start, command   minicontainer: Engine.containers.run, .start, and the command line
    unshare, crun, runc    the C tool that only makes walls, and the two runtimes under Docker and podman
    docker-none, -host     `docker run` with a daemon of our own

An entrant is a function that makes one run and returns its Sample. `Cast.entrants` asks for each in turn; one whose
program isn't installed, or doesn't work here, raises, and that is the reason in the results.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from ... import __version__
from ...errors import HostError, MinicontainerError, MissingTool
from ...isolation.cgroups import detect
from .clock import Stopwatch, moment, now
from .docker import DockerDaemon
from .results import Absent, Sample
from .scene import IMAGE, PROGRAM, Scene

LABELS = {
    "plain": "no walls: the program alone",
    "unshare": "unshare -fmpiun --mount-proc -R",
    "warm": "minicontainer, warm: run",
    "start": "minicontainer, warm: start",
    "crun": "crun run",
    "command": "minicontainer run --rm",
    "runc": "runc run",
    "docker-host": "docker run --rm --network host",
    "docker-none": "docker run --rm --network none",
}
"""Names, as --only takes them, and what they are called in tables: by what they do, the cheapest first."""
_TIMEOUT = 10.0
_UTIL_LINUX = "apt-get install util-linux"


FAILURES = (MinicontainerError, OSError)
"""What a run may fail with, without the others being in vain."""


@dataclass(frozen=True)
class Entrant:
    """Something that can be measured again and again. `note`: what a reader has to know of it, one sentence or none."""

    name: str
    version: str
    note: str
    run: Callable[[], Sample]

    @property
    def label(self) -> str:
        """What it is called in tables."""
        return LABELS[self.name]


class Cast:
    """Makes entrants ready on a scene. A context manager: what they need running is ended with it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._stack = contextlib.ExitStack()
        self._stopwatch = self._stack.enter_context(Stopwatch())
        self._daemon: DockerDaemon | MinicontainerError | None = None

    def __enter__(self) -> Cast:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entrants(self, names: list[str]) -> tuple[list[Entrant], list[Absent]]:
        """Make these ready, in the order of LABELS, each proven by one run."""
        ready, absent = [], []
        for name in (name for name in LABELS if name in names):
            try:
                entrant = self._entrant(name)
                entrant.run()
                ready.append(entrant)
            except FAILURES as error:
                absent.append(Absent(name, LABELS[name], reason_of(error)))
        return ready, absent

    def _entrant(self, name: str) -> Entrant:
        kind, _, network = name.partition("-")
        makers: dict[str, Callable[[], Entrant]] = {
            "plain": self._plain,
            "unshare": self._unshare,
            "warm": self._warm,
            "start": self._start,
            "command": self._command,
            "crun": lambda: self._runtime("crun"),
            "runc": lambda: self._runtime("runc"),
            "docker": lambda: self._docker(network),
        }
        return makers[kind]()

    def _plain(self) -> Entrant:
        path = self.scene.rootfs + PROGRAM
        return Entrant("plain", "", "what posix_spawn and the stopwatch cost", lambda: self._stopwatch.measure([path]))

    def _unshare(self) -> Entrant:
        path = find("unshare", _UTIL_LINUX)
        command = [path, "-fmpiun", "--mount-proc", "-R", self.scene.rootfs, PROGRAM]
        note = "namespaces and /proc only: no overlay, /dev, control group, capabilities or masked paths"
        return Entrant("unshare", version_of(path), note, lambda: self._stopwatch.measure(command))

    def _warm(self) -> Entrant:
        engine = self.scene.engine

        def run() -> Sample:
            began = now()
            output = engine.containers.run(IMAGE, [PROGRAM], remove=True)
            ended = now()
            return Sample(moment(output.decode(), "warm") - began, ended - began)

        return Entrant("warm", __version__, "Python API, launcher warm: made, started, its output read, removed", run)

    def _start(self) -> Entrant:
        engine = self.scene.engine

        def run() -> Sample:
            container = engine.containers.create(IMAGE, [PROGRAM])
            began = now()
            container.start()
            container.wait(_TIMEOUT)
            sample = Sample(moment(container.logs().decode(), "start") - began, None)
            container.remove()
            return sample

        return Entrant("start", __version__, "the same, of a container that was made before the clock started", run)

    def _command(self) -> Entrant:
        beside = os.path.join(os.path.dirname(sys.executable), "minicontainer")
        path = beside if os.access(beside, os.X_OK) else find("minicontainer", "./lab setup installs it")
        command = [path, "run", "--rm", IMAGE, PROGRAM]
        environment = {"MINICONTAINER_ROOT": self.scene.paths.state}
        note = "one command: starts Python, has no warm launcher"
        return Entrant("command", __version__, note, lambda: self._stopwatch.measure(command, environment))

    def _runtime(self, tool: str) -> Entrant:
        path = find(tool)
        stopwatch, note = self._stopwatch, "with minicontainer's own config.json, on a plain folder"
        if tool == "crun" and detect(self.scene.paths).version == "hybrid":
            stopwatch, hidden = self._hybrid_stopwatch()
            note += hidden
        command = [path, "--root", os.path.join(self.scene.folder, tool), "run", "--bundle", self.scene.bundle(tool)]
        command.append(f"bench-{tool}-{os.getpid()}")
        return Entrant(tool, version_of(path), note, lambda: stopwatch.measure(command))

    def _hybrid_stopwatch(self) -> tuple[Stopwatch, str]:
        """A stopwatch for crun, which refuses cgroup v1 with v2 beside it: one that sees no v2. And a note."""
        unified = [tree.mount for tree in detect(self.scene.paths).trees if tree.version == 2]
        script = 'for tree in $1; do umount "$tree" || exit; done; shift; exec "$@"'
        wrapper = [
            find("unshare", _UTIL_LINUX),
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
            " ".join(unified),
        ]
        stopwatch = self._stack.enter_context(Stopwatch(wrapper))
        floors = [_floor(watch, self.scene.rootfs + PROGRAM) for watch in (stopwatch, self._stopwatch)]
        return stopwatch, (
            "; it refuses a hybrid host, so its stopwatch is in a mount namespace without the v2 hierarchy, made "
            f"before the clock starts: a program alone takes {floors[0]:.2f} ms there, {floors[1]:.2f} ms outside"
        )

    def _docker(self, network: str) -> Entrant:
        daemon = self._running_daemon()
        command = [daemon.client, "run", "--rm", "--network", network, IMAGE, PROGRAM]
        versions = f"client {version_of(daemon.client)}, daemon {version_of(daemon.program)}"
        note = "Docker's defaults (seccomp, AppArmor where it is), a daemon of the benchmark's own"
        return Entrant(
            f"docker-{network}", versions, note, lambda: self._stopwatch.measure(command, daemon.environment)
        )

    def _running_daemon(self) -> DockerDaemon:
        """The daemon, started when it is first needed. One that failed isn't tried again: that may have taken long."""
        if self._daemon is None:
            try:
                daemon = DockerDaemon(self.scene.folder, find("docker"), find("dockerd"))
                self._stack.enter_context(daemon)
                daemon.load(self.scene.rootfs, IMAGE)
                self._daemon = daemon
            except MinicontainerError as error:
                self._daemon = error
        if isinstance(self._daemon, MinicontainerError):
            raise self._daemon
        return self._daemon


def _floor(stopwatch: Stopwatch, program: str) -> float:
    """The least milliseconds of some runs without walls."""
    return min(stopwatch.measure([program]).first for _ in range(10)) / 1e6


def reason_of(error: Exception) -> str:
    """An error as one sentence, with its hint."""
    hint = getattr(error, "hint", "")
    return f"{error} ({hint})" if hint else str(error)


def find(program: str, hint: str = "./lab peers installs it") -> str:
    """The path of a program. Raises MissingTool."""
    path = shutil.which(program)
    if path is None:
        raise MissingTool(f"{program} isn't installed", hint)
    return path


def version_of(program: str) -> str:
    """The first line of what a program says to --version, without its own name."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{program} --version failed: {error}") from None
    line = (said.stdout.strip() or "unknown").splitlines()[0]
    for word in ("unshare from", "version", "Docker", "crun", "runc"):
        line = line.removeprefix(word).strip()
    return line.partition(",")[0].removeprefix("version ").strip()
