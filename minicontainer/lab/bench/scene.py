"""The scene: one image in a state folder of its own, and the same files as a folder, for those who don't know images.

Layer: lab.bench (imports program; the engine, images, layers, isolation).

    FOLDER/state/            the engine's: the image `timed`, which is busybox and a layer with /first above it
    FOLDER/rootfs/           the same files in one folder: for unshare, runc, crun, and Docker's import
    FOLDER/bundle/<tool>/    an OCI bundle: the config.json that the engine gives its own container, its root `rootfs`

Everything is removed at the end, and with it the control groups named `minicontainer` that nobody is in. The folder is
locked as long as its benchmark lives; what one that was killed has left, the next one removes.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from types import TracebackType
from typing import Any, Self

from ...documents import write_document
from ...engine import Engine
from ...images import ImageStore
from ...images.assembly import put_image
from ...images.bootstrap import bootstrap_busybox
from ...layers import Layer, Scratch, pack
from ...paths import Paths
from ...runtime.spec import Options
from .docker import remove_groups
from .program import timed_program

IMAGE = "timed:latest"
PROGRAM = "/first"
_PREFIX = "minicontainer-bench-"


class Scene:
    """A context manager: everything is there inside it, and nothing of it afterwards."""

    def __init__(self) -> None:
        """Raises MissingTool without a static busybox, HostError for a processor that the program isn't written for."""
        # Not /tmp, which may be memory: a state folder is on a disk, and what it costs to write there is in the times.
        place = os.environ.get("TMPDIR") or "/var/tmp"
        sweep(place)
        self.folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        self._lock = lock(self.folder)
        os.chmod(self.folder, 0o711)
        self.paths = Paths(state=os.path.join(self.folder, "state"))
        self.engine = Engine(self.paths)
        self.rootfs = os.path.join(self.folder, "rootfs")
        try:
            self._build()
        except BaseException:
            self._remove()
            raise

    def _build(self) -> None:
        layers = make_image(self.engine.store)
        for layer in reversed(layers):
            shutil.copytree(layer, self.rootfs, symlinks=True, dirs_exist_ok=True)
        never_started = self.engine.create(IMAGE, Options(command=(PROGRAM,)), "pattern")
        self._pattern: dict[str, Any] = self.engine.spec_of(never_started)

    def bundle(self, tool: str) -> str:
        """The folder of a bundle for a runtime: the engine's own config.json with another root and control group."""
        spec = {**self._pattern, "root": {"path": self.rootfs, "readonly": False}}
        spec["linux"] = {**spec["linux"], "cgroupsPath": f"/minicontainer/bench-{tool}-{os.getpid()}"}
        folder = os.path.join(self.folder, "bundle", tool)
        os.makedirs(folder)
        write_document(os.path.join(folder, "config.json"), spec)
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for state in self.engine.states(ended=True):
            self.engine.remove(state["id"], force=True)
        self._remove()

    def _remove(self) -> None:
        self.engine.close()
        shutil.rmtree(self.folder)
        os.close(self._lock)
        remove_groups()


def lock(folder: str) -> int:
    """Lock a folder with flock(2) until the descriptor that comes back is closed. -1: another has it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def sweep(place: str) -> None:
    """Remove the folders that benchmarks of this user, killed since, have left in `place`."""
    for folder in glob.glob(f"{glob.escape(place)}/{_PREFIX}*"):
        descriptor = lock(folder)
        if descriptor >= 0:
            if os.fstat(descriptor).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def make_image(store: ImageStore) -> tuple[str, ...]:
    """Put IMAGE into a store; its unpacked layers, topmost first."""
    base = bootstrap_busybox(store, progress=lambda _: None)
    below = [
        (Layer(blob.digest, blob.size, diff_id, blob.media_type), "")
        for blob, diff_id in zip(base.layers, base.diff_ids, strict=True)
    ]
    with Scratch(store.paths.layers) as scratch:
        tree, blob = os.path.join(scratch.path, "tree"), os.path.join(scratch.path, "layer")
        os.mkdir(tree)
        with open(tree + PROGRAM, "wb") as file:
            file.write(timed_program(os.uname().machine))
            os.fchmod(file.fileno(), 0o755)
        with open(blob, "wb") as out:
            layer = pack(tree, out, epoch=0, owner=(0, 0))
        config = {name: value for name, value in base.config.items() if name not in ("rootfs", "history")}
        config["config"] = {**config["config"], "Cmd": [PROGRAM]}
        image = put_image(store, [*below, (layer, blob)], config, [IMAGE])
    return store.lowers(image)
