"""A guest with pure cgroup v2, for the tests that need one: QEMU, the distribution's kernel, Debian with pytest.

    python tests/guest/guest.py -- COMMAND…      run a command in it, in a copy of this checkout

Built once, in .cache/guest of the checkout (a minute, 350 MB; mmdebstrap, no root needed), and again when the recipe
changes. The checkout goes in as a tar on a second disk, what the command writes to /guest/out comes back on a third;
the root disk is a snapshot, so every run starts from the same. No network, no shared folders. The guest's Python is
Debian's; pytest and what else the tests import are this environment's own, handed in (PYTHONPATH=/guest/site).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))

from minicontainer.documents import Lock  # noqa: E402
from minicontainer.errors import HostError, MinicontainerError, MissingTool  # noqa: E402
from minicontainer.lab.vm import Kernel, fetch_kernel, probe_accelerator  # noqa: E402
from minicontainer.lab.vm.disk import make_disk  # noqa: E402
from minicontainer.lab.vm.qemu import KVM, find_qemu  # noqa: E402
from minicontainer.lab.vm.session import Session, explain  # noqa: E402
from minicontainer.lab.vm.tree import merge  # noqa: E402
from minicontainer.layers import Scratch  # noqa: E402
from minicontainer.paths import Paths  # noqa: E402

Progress = Callable[[str], None]

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("busybox-static", "iproute2", "kmod", "nftables", "procps", "python3", "uidmap")
DISTRIBUTIONS = ("pyroute2", "pytest")
"""What is handed in of this environment, each with all that it requires: pure Python, so that any version will do.

Hypothesis isn't: it has a compiled part, for the host's Python.
"""
LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
NOT_HANDED_IN = {".git", ".venv", ".cache", "__pycache__", "artefacts", ".ipynb_checkpoints"}
MEMORY_MB, PROCESSORS = 1024, 1
OUT_BYTES = 64 << 20
BOOT_LIMIT = 120.0


@dataclass(frozen=True)
class Result:
    """What a command in the guest came to."""

    exit_code: int
    output: tuple[str, ...]
    """The first and the last lines of what it printed."""
    seconds: float


class Guest:
    """The built guest: its kernel and its root disk."""

    def __init__(self, cache: Path = CHECKOUT / ".cache" / "guest", progress: Progress = print) -> None:
        """Fetch and build what is missing. Raises MissingTool, or HostError where there is no network."""
        self.paths = Paths(state=str(cache))
        self.kernel: Kernel = fetch_kernel(self.paths, progress, modules=True)
        self.disk = str(cache / f"root-{self._recipe()}.ext4")
        with Lock(str(cache / "lock")):
            if not os.path.exists(self.disk):
                for old in cache.glob("root-*.ext4"):
                    old.unlink()
                progress(f"building the test guest in {cache}: about a minute")
                self._build(str(cache))
        self.accelerator = probe_accelerator(self.paths, self.kernel).name

    def _recipe(self) -> str:
        """A digest of all that the root disk is made from."""
        parts = (SUITE, PACKAGES, LEFT_OUT, self.kernel.release, self.kernel.version, (HERE / "init.sh").read_text())
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _build(self, cache: str) -> None:
        if shutil.which("mmdebstrap") is None:
            raise MissingTool("mmdebstrap is not installed", hint="apt-get install mmdebstrap")
        with Scratch(cache) as scratch:
            os.chmod(scratch.path, 0o755)  # mmdebstrap drops privileges on the way
            root = Path(scratch.path, "root")
            command = [
                "mmdebstrap", f"--mode={'root' if os.geteuid() == 0 else 'unshare'}", "--variant=minbase",
                f"--include={','.join(PACKAGES)}", '--aptopt=Apt::Install-Recommends "false"',
                *(f"--dpkgopt=path-exclude=/{folder}/*" for folder in LEFT_OUT[:3]),
                f"--customize-hook=copy-in {HERE}/init.sh /sbin",
                f"--customize-hook=copy-in {self.kernel.modules}/lib/modules /usr/lib",
                f'--customize-hook=chroot "$1" depmod {self.kernel.release}',
                "--customize-hook=mkdir $1/guest",
                SUITE, f"{scratch.path}/root.tar", f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main",
            ]  # fmt: skip
            run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise HostError(f"mmdebstrap can't build the guest: {run.stderr.strip()[-2000:]}")
            root.mkdir()
            excluded = [f"--exclude=./{folder}/*" for folder in ("dev", *LEFT_OUT)]
            subprocess.run(["tar", "-xf", f"{scratch.path}/root.tar", "-C", str(root), *excluded], check=True)
            make_disk(merge([str(root)]), self.disk)

    def run(self, script: str, out: Path, timeout: float = 900.0) -> Result:
        """Run a shell script in a copy of the checkout; what it leaves in /guest/out is put into the folder `out`.

        Raises HostError where the guest ended without an exit code: it hung, panicked, or took longer than `timeout`.
        """
        with tempfile.TemporaryDirectory(prefix="guest-") as folder:
            disks = (self.disk, f"{folder}/in.tar", f"{folder}/out.raw")
            hand_in(Path(disks[1]), script)
            with open(disks[2], "wb") as file:
                file.truncate(OUT_BYTES)
            session = Session(lambda monitor: self._command(disks, monitor), "guest", BOOT_LIMIT)
            try:
                session.wait(lambda: session.ended, timeout)
            finally:
                session.stop()
            console = session.console
            if console.exit_code is None:
                reason = explain(session, MEMORY_MB) or f"no exit code after {timeout:g} s"
                raise HostError(f"{reason}\n" + "\n".join(console.output))
            subprocess.run(["tar", "-xf", disks[2], "-C", str(out), "--no-same-owner"], check=True)
            return Result(console.exit_code, tuple(console.output), session.seconds)

    def _command(self, disks: tuple[str, ...], monitor: int) -> list[str]:
        architecture = self.kernel.architecture
        device, first = self.kernel.disk
        names = [first.replace("nvme0", f"nvme{number}").replace("vda", f"vd{'abc'[number]}") for number in range(3)]
        drives = []
        for number, path in enumerate(disks):
            snapshot = "off" if path.endswith(".raw") else "on"
            drives += ["-drive", f"file={path},if=none,id=d{number},format=raw,snapshot={snapshot}"]
            drives += ["-device", f"{device},drive=d{number},serial=d{number}"]
        kvm = self.accelerator == KVM
        parameters = (
            f"console={architecture.console}", *architecture.parameters, "loglevel=6", "panic=-1", "net.ifnames=0",
            f"root={names[0]}", "rootfstype=ext4", "rw", "init=/sbin/init.sh",
            f"guest.in={names[1]}", f"guest.out={names[2]}",
        )  # fmt: skip
        return [
            find_qemu(architecture), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
            "-machine", architecture.board, "-accel", "kvm" if kvm else "tcg,tb-size=256",
            "-cpu", "host" if kvm else "max", "-smp", str(PROCESSORS), "-m", str(MEMORY_MB),
            "-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control", "-serial", "stdio",
            "-kernel", self.kernel.image, "-append", " ".join(parameters), *drives,
        ]  # fmt: skip


def hand_in(path: Path, script: str) -> None:
    """Write the tar that the guest reads: the checkout without what was made in it, Python packages, the script."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        return None if NOT_HANDED_IN & set(member.name.split("/")) else member

    with tempfile.NamedTemporaryFile("w", suffix=".sh") as run, tarfile.open(path, "w") as archive:
        run.write(script)
        run.flush()
        archive.add(run.name, "run.sh")
        archive.add(CHECKOUT, "checkout", filter=wanted)
        for name, source in sorted(python_files(DISTRIBUTIONS).items()):
            archive.add(source, f"site/{name}")


def python_files(names: Iterable[str]) -> dict[str, str]:
    """The files of installed distributions and of those that they require: their names, and where they are.

    Compiled ones (.pyc) too: they save the guest some seconds where its Python is of the host's version.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name in seen:
            continue
        seen.add(name)
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
        for file in distribution.files or ():
            source = str(distribution.locate_file(file))
            if file.parts[0] != ".." and os.path.isfile(source):
                found[str(file)] = source
    return found


def main() -> int:
    """Run the command that follows `--` in the guest, print what it printed, and end with its exit code."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    if not words:
        sys.exit((__doc__ or "").strip())
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = Guest().run(" ".join(words), Path(folder))
    except MinicontainerError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}" if error.hint else f"error: {error.message}")
    print("\n".join(result.output))
    print(f"[exit code {result.exit_code}, {result.seconds:.1f} s with boot and end]", file=sys.stderr)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
