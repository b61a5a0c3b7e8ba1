"""The installed command on a real state folder, and looks at what the kernel has of its containers.

    def test_hello(cli):
        assert cli.ok("run", "--rm", "busybox", "echo", "hello") == "hello\n"

Its fixtures are for the folders whose tests run containers: `from real_engine import busybox, cli, own_cli`.
Nothing here waits for longer than `SECONDS`, which no test needs: it is there so that a failure doesn't hang.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from minicontainer.images import ImageStore
from minicontainer.images.assembly import put_image
from minicontainer.isolation.cgroups import cgroup_of, detect
from minicontainer.layers import Layer, pack
from minicontainer.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20
CHECKOUT = Path(__file__).parents[2]
CGROUP = Path("/sys/fs/cgroup")
HIERARCHIES = detect(Paths(state="/nonexistent"))

Found = TypeVar("Found")


def installed() -> list[str]:
    """The command as users have it; where it isn't installed, as in a guest, the module."""
    command = Path(sys.prefix, "bin", "minicontainer")
    return [str(command)] if command.exists() else [sys.executable, "-m", "minicontainer"]


def eventually(look: Callable[[], Found], what: str, seconds: float = SECONDS) -> Found:
    """What `look` finds, as soon as that is something; the test fails where it never is."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
    return found


def text_of(data: bytes) -> str:
    """Bytes as they came: no newline is changed, and what isn't UTF-8 is kept."""
    return data.decode("utf-8", "surrogateescape")


class CommandLine:
    """The command `minicontainer` on one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.command = installed()
        self.started: list[subprocess.Popen[bytes]] = []

    def environment(self, **changes: str) -> dict[str, str]:
        """What a command of ours gets: this process's variables, the state folder, and where the package is."""
        return {**os.environ, "MINICONTAINER_ROOT": str(self.state), "PYTHONPATH": str(CHECKOUT), **changes}

    def __call__(
        self,
        *arguments: str,
        input: str | bytes = b"",  # noqa: A002 - as subprocess calls it
        timeout: float = SECONDS,
        env: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. `before`: a program that starts it, such as ("nice", "-n", "5")."""
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [*before, *self.command, *arguments],
            input=data,
            capture_output=True,
            timeout=timeout,
            env=self.environment(**(env or {})),
            check=False,
            **options,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, text_of(done.stdout), text_of(done.stderr))

    def ok(self, *arguments: str, **options: Any) -> str:
        """Its output, when all goes well."""
        done = self(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def fails(self, *arguments: str, code: int, **options: Any) -> str:
        """The sentence that it fails with: a line, and below it one with a hint; nothing else is printed."""
        return refusal(self(*arguments, **options), code)

    def start(self, *arguments: str, before: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[bytes]:
        """Start it, and go on; it is killed at the end of the test if it still runs then."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        environment = self.environment(**streams.pop("env", {}))
        process = subprocess.Popen([*before, *self.command, *arguments], env=environment, **streams)
        self.started.append(process)
        return process

    def container(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """The ID of a new container that runs in the background: `command`, else one that sleeps."""
        return self.ok("run", "-d", *options, "busybox", *(command or ("sleep", "1000"))).strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """All about one container."""
        (found,) = json.loads(self.ok("inspect", name))
        return found

    def state_of(self, identifier: str) -> dict[str, Any]:
        """What is written down about one container (runtime/state.py)."""
        document: dict[str, Any] = json.loads((self.folder(identifier) / "state.json").read_bytes())
        return document

    def folder(self, identifier: str) -> Path:
        """The bundle of a container."""
        return self.state / "containers" / identifier

    def folders(self) -> list[str]:
        """All that lies where the bundles are, half-made ones too."""
        try:
            return sorted(os.listdir(self.state / "containers"))
        except FileNotFoundError:
            return []

    def derive(self, name: str, fill: Callable[[Path], None] | None = None, **config: Any) -> None:
        """Make an image of busybox, with another config, and one more layer of what `fill` puts into a folder."""
        store = ImageStore(Paths(state=str(self.state)))
        base = store.resolve("busybox")
        rows = zip(base.layers, base.diff_ids, strict=True)
        layers = [(Layer(blob.digest, blob.size, diff_id), "") for blob, diff_id in rows]
        if fill:
            tree = self.state / "tree"
            tree.mkdir()
            fill(tree)
            with open(self.state / "blob", "wb") as out:
                layers.append((pack(str(tree), out, epoch=0, owner=(0, 0)), out.name))
            shutil.rmtree(tree)
        put_image(store, layers, {**base.config, "config": {**base.config["config"], **config}}, [name])

    def clean(self) -> None:
        """End what the test has started, and remove its containers."""
        for process in self.started:
            with process:  # closes its pipes, and reaps it
                process.kill()
        if left := [name for name in self.folders() if not name.startswith(".")]:
            self("rm", "-f", *left)
        try:
            eventually(lambda: not self.folders(), "the monitors delete the folders of their containers", 5)
            eventually(lambda: not any(groups(name) for name in left), "the control groups go", 5)
        finally:  # a test that has failed must not make others fail
            for name in {*left, *(name.lstrip(".") for name in self.folders())}:
                cgroup = cgroup_of(HIERARCHIES, name)
                cgroup.kill_all()
                cgroup.remove()
            for name in ("containers", "names"):
                shutil.rmtree(self.state / name, ignore_errors=True)


def refusal(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The sentence that a command failed with, in the shape that all have: below it is a hint."""
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (code, ""), done
    found = re.fullmatch(r"minicontainer: ([^\n]+)\n  hint: [^\n]+\n", done.stderr)
    assert found, f"not one sentence and a hint: {done.stderr!r}"
    return found[1]


# ── what the kernel has ──────────────────────────────────────────────────────────────────────────────────────────────


def groups(identifier: str) -> list[Path]:
    """The control groups of a container, in every hierarchy."""
    places = [CGROUP, *(place for place in CGROUP.iterdir() if place.is_dir())]
    return [group for place in places if (group := place / "minicontainer" / identifier).is_dir()]


def is_alive(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def mounts_with(path: Path | str) -> list[str]:
    """The lines of this mount namespace's table that mention a path."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(path) in line]


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal, by default the one that nothing survives."""
    os.kill(pid, number)


# ── fixtures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def busybox() -> Iterator[Path]:
    """A state folder that has the image busybox. Tests that change images copy it: see `own_cli`."""
    if not Path("/bin/busybox").exists():
        pytest.skip("/bin/busybox is not there (./lab test installs busybox-static)")
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    folder.chmod(0o755)
    CommandLine(folder)("image", "bootstrap", "busybox", timeout=120)
    yield folder
    shutil.rmtree(folder)  # fails where something is still mounted below


@pytest.fixture
def cli(busybox: Path) -> Iterator[CommandLine]:
    """The command, on the state folder that all tests share; what a test leaves there is removed."""
    command = CommandLine(busybox)
    yield command
    command.clean()


@pytest.fixture
def own_cli(busybox: Path) -> Iterator[CommandLine]:
    """The command, on a state folder of the test's own, with busybox in it."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    folder.chmod(0o755)
    for name in ("images", "layers"):
        shutil.copytree(busybox / name, folder / name, symlinks=True)
    command = CommandLine(folder)
    yield command
    command.clean()
    shutil.rmtree(folder)
