"""The machine as the doctor sees it: roots, user, programs, and what was tried.

Layer: lab (imports paths). Every root is a field, so that a test shows any machine with temporary folders.
"""

from __future__ import annotations

import os
import platform
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...paths import Paths
from . import trials


def say(*command: str) -> str:
    """The first line that a program prints, "" where there is none. It may take five seconds."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0]


def find(program: str) -> str | None:
    """The path of a program; also where an ordinary user's PATH doesn't look for it."""
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Host:
    """One machine, and one user on it."""

    paths: Paths
    etc: Path = Path("/etc")
    uid: int = 0
    user: str = "root"
    machine: str = "x86_64"
    """As `uname -m` says it."""
    python: tuple[int, ...] = sys.version_info[:3]
    tried: Mapping[str, str] = field(default_factory=dict)
    """What trials.outcomes has found: "" is success."""
    say: Callable[..., str] = say
    find: Callable[[str], str | None] = find

    @classmethod
    def here(cls, paths: Paths) -> Host:
        """This machine, all trials held."""
        uid = os.geteuid()
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = str(uid)
        return cls(paths, uid=uid, user=user, machine=platform.machine(), tried=trials.outcomes(existing(paths.state)))

    def fact(self, name: str) -> str:
        """The text of a file below /proc, "" where it isn't there or isn't readable."""
        return text(Path(self.paths.proc, name))

    def number(self, name: str) -> int | None:
        """The number in a file below /proc, None where there is none."""
        word = self.fact(name).strip()
        return int(word) if word.isdecimal() else None

    def memory(self, name: str) -> int:
        """Bytes of a line of /proc/meminfo, such as MemTotal; 0 where it isn't there."""
        for line in self.fact("meminfo").splitlines():
            key, _, rest = line.partition(":")
            if key == name and rest.split():
                return int(rest.split()[0]) * 1024
        return 0

    @property
    def distribution(self) -> Mapping[str, str]:
        """The fields of os-release(5)."""
        pairs = (line.partition("=") for line in text(self.etc / "os-release").splitlines() if "=" in line)
        return {key: "".join(shlex.split(value)[:1]) for key, _, value in pairs}

    @property
    def sudo(self) -> str:
        """What stands before a command that only root may give."""
        return "" if self.uid == 0 else "sudo "

    def install(self, *packages: str) -> str:
        """The command that installs packages of Debian or Ubuntu."""
        return f"{self.sudo}apt-get install -y {' '.join(packages)}"

    @property
    def new_kernel(self) -> str:
        """The command that installs the distribution's own kernel with all its parts."""
        ubuntu = self.distribution.get("ID") == "ubuntu"
        package = "linux-image-generic" if ubuntu else "linux-image-$(dpkg --print-architecture)"
        return f"{self.install(package)} && {self.sudo}reboot"

    def boot_with(self, parameters: str) -> str:
        """The commands that add parameters to the kernel's command line."""
        edit = f's/^GRUB_CMDLINE_LINUX="/&{parameters} /'
        return f"{self.sudo}sed -i '{edit}' /etc/default/grub\n{self.sudo}update-grub && {self.sudo}reboot"

    def file_system(self, path: Path) -> str:
        """The type of the file system that holds `path` (proc_pid_mountinfo(5)), "" where that isn't known."""
        best, kind = "", ""
        for line in self.fact("self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            fields = left.split(" ")
            point = fields[4] if len(fields) > 4 else ""
            if len(point) >= len(best) and f"{path}/".startswith(point.rstrip("/") + "/"):
                best, kind = point, right.split(" ")[0]
        return kind


def text(path: Path) -> str:
    """The text of a file, "" where it isn't there or isn't readable."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def existing(path: str) -> Path:
    """`path`, or the nearest folder above it that exists."""
    folder = Path(path)
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
