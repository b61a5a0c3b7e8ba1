"""What a virtual machine boots from: an initramfs with our init, and the image in it or on a disk.

Layer: lab.vm (imports cpio, disk, init, tree, kernel, documents, errors, images, layers, paths).

    STATE/lab/boot/<key>.cpio     /init, /workload, /bin/busybox, and for a small image /image/…
                   <key>.ext4     the image, where it would take more than an eighth of the guest's memory
                   lock

All of it is made before the clock starts, as the container's layers are unpacked before it starts. A key is a digest of
all that the file is made of, so what is there can be used again; the newest few are kept. A guest whose file is removed
keeps running: QEMU has it open.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...documents import Lock
from ...errors import HostError, MissingTool
from ...images.bootstrap import is_static
from ...layers import Scratch
from ...paths import Paths
from .cpio import CpioWriter
from .disk import make_disk
from .init import APPLETS, init_script, workload_script
from .kernel import Kernel
from .tree import Entry, content_size, fingerprint, merge

BUSYBOX = "/bin/busybox"
_KEPT = 8
"""Files in STATE/lab/boot that stay."""
_SHARE = 8
"""An image is in the initramfs up to this part of the guest's memory, which holds it packed and unpacked at first."""


@dataclass(frozen=True)
class Media:
    """The files that QEMU is given. `disk`: "" where the image is in the initramfs."""

    initramfs: str
    disk: str
    tag: str
    """What the guest's markers begin with (init.marker)."""
    image_bytes: int
    """The contents of the image's files."""


def prepare_media(
    paths: Paths, kernel: Kernel, layers: Sequence[str], process: Mapping[str, Any], hostname: str, memory: int
) -> Media:
    """Make, or find again, what the guest boots from. `layers`: topmost first; `memory`: the guest's, in bytes.

    Raises MissingTool without a static busybox (for a disk, without mke2fs), HostError where a file can't be made.
    """
    if not os.path.exists(BUSYBOX) or not is_static(BUSYBOX):
        raise MissingTool(f"{BUSYBOX} isn't there or isn't static", hint="apt-get install busybox-static")
    folder = os.path.join(paths.lab, "boot")
    try:
        os.makedirs(folder, exist_ok=True)
        with Lock(os.path.join(folder, "lock")):
            media = _prepare(folder, kernel, merge(layers), process, hostname, memory)
            _prune(folder)
            return media
    except OSError as error:
        about = error.filename or folder
        problem = f"can't prepare the virtual machine: {os.fsdecode(about)}: {error.strerror}"
        raise HostError(problem, hint=f"is there space in {folder}, and are the layers ours to read?") from None


def _prepare(
    folder: str, kernel: Kernel, tree: list[Entry], process: Mapping[str, Any], hostname: str, memory: int
) -> Media:
    size, key = content_size(tree), fingerprint(tree)
    disk, node = "", ""
    if size > memory // _SHARE:
        node = kernel.disk[1]
        disk = os.path.join(folder, f"{key}.ext4")
        if not _is_here(disk):
            make_disk(tree, disk)
    console = kernel.architecture.console
    busybox = os.stat(BUSYBOX)
    scripts = init_script("", console, hostname, node), workload_script("", process)
    parts = ("" if disk else key, *scripts, busybox.st_size, busybox.st_mtime_ns)
    tag = hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:16]
    initramfs = os.path.join(folder, f"{tag}.cpio")
    if not _is_here(initramfs):
        _make_initramfs(
            initramfs, init_script(tag, console, hostname, node), workload_script(tag, process), [] if disk else tree
        )
    return Media(initramfs, disk, tag, size)


def _make_initramfs(path: str, init: str, workload: str, tree: list[Entry]) -> None:
    with Scratch(os.path.dirname(path)) as scratch:
        draft = os.path.join(scratch.path, "initramfs")
        with open(draft, "wb") as out, open(BUSYBOX, "rb") as busybox:
            writer = CpioWriter(out)
            for name in ("bin", "dev", "proc"):
                writer.add_folder(name)
            writer.add_device("dev/console", 5, 1)  # the kernel opens it for /init, before anything is mounted
            writer.add_bytes("bin/busybox", busybox.read())
            for name in APPLETS:
                writer.add_link(f"bin/{name}", "busybox")
            writer.add_bytes("init", os.fsencode(init))
            writer.add_bytes("workload", os.fsencode(workload), mode=0o644)
            if tree:
                writer.add_tree(tree, "image")
            else:
                writer.add_folder("image")
            writer.finish()
        os.rename(draft, path)


def _is_here(path: str) -> bool:
    """Whether the file was made before; then it counts as new again."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _prune(folder: str) -> None:
    files = [entry for entry in os.scandir(folder) if entry.name.endswith((".cpio", ".ext4"))]
    for entry in sorted(files, key=lambda entry: entry.stat().st_mtime, reverse=True)[_KEPT:]:
        os.unlink(entry.path)
