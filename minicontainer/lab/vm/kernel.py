"""The guest's kernel: a package of the distribution, unpacked and never installed.

Layer: lab.vm (imports architecture, documents, errors, layers, paths). Needs apt-get and dpkg-deb, and no privilege.

    STATE/lab/kernel/kernel.json          which kernel is the current one; written last, so what it names is whole
                     <release>/vmlinuz
                     <release>/config     the package's own, for people
                     <release>/lib/       its modules, only where they were asked for
                     lock

    {"release": "6.1.0-9-cloud-amd64", "package": "linux-image-…", "version": "6.1.27-1", "architecture": "amd64",
     "config": {"BLK_DEV_NVME": "y", "VIRTIO_BLK": "m", …}}

Rules: what the guest's devices are is read from `config`, never guessed from the package's name: Debian's cloud kernel
has NVMe built in and virtio as a module, Ubuntu's the other way round.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...documents import Lock, read_document, write_document
from ...errors import HostError, IntegrityError, MissingTool, NotFound
from ...layers import Scratch
from ...paths import Paths
from .architecture import Architecture, host_architecture

Progress = Callable[[str], None]

FETCH = "python -m minicontainer.lab.vm fetch-kernel"
OPTIONS = (
    "BLK_DEV_INITRD", "BLK_DEV_NVME", "DEVTMPFS", "EXT4_FS", "OVERLAY_FS", "SERIAL_8250_CONSOLE",
    "SERIAL_AMBA_PL011_CONSOLE", "VIRTIO", "VIRTIO_BLK", "VIRTIO_PCI",
)  # fmt: skip
"""What is kept of a kernel's config, without CONFIG_."""
_DISKS = (
    ("nvme", "/dev/nvme0n1", ("BLK_DEV_NVME",)),
    ("virtio-blk-pci", "/dev/vda", ("VIRTIO", "VIRTIO_PCI", "VIRTIO_BLK")),
)
"""QEMU's device, its name in the guest, and what must be built in for it: nobody loads modules."""


@dataclass(frozen=True)
class Kernel:
    """A guest kernel that is here and can boot."""

    release: str
    """What uname -r says in the guest."""
    package: str
    version: str
    folder: str
    architecture: Architecture
    config: dict[str, str]
    """"y" (built in), "m" (a module) or "n" for each of OPTIONS."""

    @property
    def image(self) -> str:
        """The path of the kernel itself."""
        return os.path.join(self.folder, "vmlinuz")

    @property
    def modules(self) -> str:
        """The folder that holds lib/modules, if they were fetched."""
        return self.folder

    @property
    def disk(self) -> tuple[str, str]:
        """A disk that this kernel sees without modules: (QEMU's device, its name in the guest). Raises HostError."""
        for device, node, options in _DISKS:
            if all(self.config.get(option) == "y" for option in (*options, "EXT4_FS")):
                return device, node
        raise HostError(f"the kernel of {self.package} has neither NVMe nor virtio disks built in, with ext4")


def read_config(text: str) -> dict[str, str]:
    """The values of OPTIONS in a kernel's config file."""
    found = dict(re.findall(r"^CONFIG_(\w+)=([ym])$", text, re.MULTILINE))
    return {option: found.get(option, "n") for option in OPTIONS}


def find_kernel(paths: Paths) -> Kernel:
    """The kernel that was fetched. Raises NotFound, with the command that fetches one, or IntegrityError."""
    folder = os.path.join(paths.lab, "kernel")
    try:
        kernel = _kernel(folder, read_document(os.path.join(folder, "kernel.json")))
    except (FileNotFoundError, NotADirectoryError):
        kernel = None
    except PermissionError:
        raise HostError(f"{folder} is not ours to read", hint="use sudo, or another state folder") from None
    if kernel is None or not os.path.exists(kernel.image):
        raise NotFound("no guest kernel has been fetched", hint=f"fetch one: {FETCH}")
    return kernel


def _kernel(folder: str, note: Any) -> Kernel:
    try:
        return Kernel(
            release=note["release"],
            package=note["package"],
            version=note["version"],
            folder=os.path.join(folder, note["release"]),
            architecture=next(row for row in [host_architecture()] if row.name == note["architecture"]),
            config=dict(note["config"]),
        )
    except (KeyError, TypeError, ValueError, StopIteration):
        problem = f"{folder}/kernel.json doesn't describe a kernel for this machine"
        raise IntegrityError(problem, hint=f"remove it, and fetch the kernel again: {FETCH}") from None


def fetch_kernel(paths: Paths, progress: Progress = print, modules: bool = False) -> Kernel:
    """Fetch the distribution's kernel for virtual machines, unless it is here. `modules`: its modules too (100 MB).

    Raises MissingTool without apt-get, HostError where apt knows no such package or can't download it.
    """
    folder = os.path.join(paths.lab, "kernel")
    try:
        os.makedirs(folder, exist_ok=True)
        with Lock(os.path.join(folder, "lock")):
            try:
                kernel = find_kernel(paths)
                if not modules or os.path.isdir(os.path.join(kernel.modules, "lib")):
                    progress(f"the guest kernel is here: {kernel.release} ({kernel.package} {kernel.version})")
                    return kernel
            except (NotFound, IntegrityError):
                pass
            with Scratch(folder) as scratch:
                return _fetch(folder, scratch.path, progress, modules)
    except OSError as error:
        problem = f"can't keep a kernel in {folder}: {error.strerror}"
        raise HostError(problem, hint="use sudo, free some space, or use another state folder") from None


def _fetch(folder: str, scratch: str, progress: Progress, modules: bool) -> Kernel:
    architecture = host_architecture()
    package, version, packages = choose_package(architecture)
    unpacked = os.path.join(scratch, "unpacked")
    for name in packages:
        progress(f"downloading {name} {version}")
        unpack(download(name, scratch), unpacked)
    images = glob.glob(os.path.join(unpacked, "boot", "vmlinuz-*"))
    configs = glob.glob(os.path.join(unpacked, "boot", "config-*"))
    if len(images) != 1 or len(configs) != 1:
        raise HostError(f"{' and '.join(packages)} hold {len(images)} kernels and {len(configs)} configs, not one each")
    with open(configs[0], encoding="utf-8") as file:
        config = read_config(file.read())
    _check(config, architecture, package)
    release = os.path.basename(images[0]).removeprefix("vmlinuz-")
    ready = os.path.join(scratch, "ready")
    os.mkdir(ready)
    os.chmod(images[0], 0o644)  # Ubuntu's is root's alone
    os.rename(images[0], os.path.join(ready, "vmlinuz"))
    os.rename(configs[0], os.path.join(ready, "config"))
    if modules:
        os.rename(os.path.join(unpacked, "lib"), os.path.join(ready, "lib"))
    target = os.path.join(folder, release)
    shutil.rmtree(target, ignore_errors=True)  # what kernel.json doesn't name is half a kernel, or one without modules
    os.rename(ready, target)
    note = {"release": release, "package": package, "version": version, "architecture": architecture.name}
    write_document(os.path.join(folder, "kernel.json"), {**note, "config": config})
    progress(f"the guest kernel is {release}, in {target}")
    return _kernel(folder, {**note, "config": config})


def _check(config: dict[str, str], architecture: Architecture, package: str) -> None:
    """Refuse a kernel that couldn't boot: it needs its console, an initramfs and /dev before anything can be loaded."""
    for option in (architecture.console_option, "BLK_DEV_INITRD", "DEVTMPFS"):
        if config[option] != "y":
            raise HostError(f"the kernel of {package} has CONFIG_{option} not built in")


def choose_package(architecture: Architecture) -> tuple[str, str, list[str]]:
    """The package of the distribution's kernel for guests, its version, and all that its boot folder comes from.

    The metapackages of `architecture.kernels` name the newest kernel in their dependencies; on Ubuntu the config and
    the modules are in a package of their own.
    """
    for meta in architecture.kernels:
        for name in _dependencies(_show(meta), "linux-image-"):
            fields = _show(name)
            if fields:
                return name, fields["Version"], [name, *_dependencies(fields, "linux-modules-")]
    raise HostError(
        f"apt knows none of the kernel packages {', '.join(architecture.kernels)}",
        hint="bring its lists up to date: apt-get update",
    )


def _dependencies(fields: dict[str, str], prefix: str) -> list[str]:
    words = re.split(r"[,|]", fields.get("Depends", ""))
    return [name for word in words if (name := word.split("(")[0].strip()).startswith(prefix)]


def _show(package: str) -> dict[str, str]:
    """The record of the version of `package` that apt would install, empty if there is none."""
    run = subprocess.run(
        [_tool("apt-cache", "apt"), "show", "--no-all-versions", package],
        capture_output=True,
        text=True,
        check=False,
        env=_english(),
    )
    return dict(re.findall(r"^([A-Z][\w-]*): (.*)$", run.stdout, re.MULTILINE)) if run.returncode == 0 else {}


def download(package: str, folder: str) -> str:
    """Download a package into a folder and return its path: apt checks it against the distribution's signed lists."""
    # apt would hand the download to its own user, who can't write here, and warn.
    command = [_tool("apt-get", "apt"), "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_english())
    files = glob.glob(os.path.join(folder, glob.escape(package) + "_*.deb"))
    if run.returncode != 0 or not files:
        said = [line for line in run.stderr.splitlines() if line.startswith("E:")] or ["E: nothing came"]
        raise HostError(
            f"can't download {package}: {said[0].removeprefix('E: ')}",
            hint="this needs the network once; if the package is outdated: apt-get update",
        )
    return files[0]


def unpack(package: str, folder: str) -> None:
    """Unpack a downloaded package into a folder, over what is there."""
    run = subprocess.run(
        [_tool("dpkg-deb", "dpkg"), "-x", package, folder], capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        raise HostError(f"can't unpack {os.path.basename(package)}: {run.stderr.strip().splitlines()[-1]}")


def _english() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _tool(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingTool(
            f"{program} (of {package}) is not installed", hint="the lab fetches its kernel on Debian and Ubuntu"
        )
    return path
