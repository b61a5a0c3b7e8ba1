"""A pytest plugin: a run of the tests that leaves something behind on the host fails, and says what it left.

Before the first test and after the last, a snapshot: mounts, cgroups named `minicontainer`, network interfaces, named
network namespaces, nft tables, containers in the default state folder. What is new then is a leak. Processes and
temporary files are known by signs that the session gives them:

    MINICONTAINER_TEST_SESSION=…    in the environment of all that the tests start (proc_pid_environ(5))
    TMPDIR=/tmp/mc-test-…           where all temporary folders go; only pytest's own may stay in it

Others may work beside this session: a populated cgroup is ours by its processes, and a leak is what stays for seconds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

SIGN = "MINICONTAINER_TEST_SESSION"
PREFIX = "mc-test-"
Things = frozenset[str]


@dataclass(frozen=True)
class Snapshot:
    """What is on the host at one moment, kind by kind, each thing in words that a person can look for."""

    mounts: Things
    cgroups: Things
    interfaces: Things
    namespaces: Things
    tables: Things
    containers: Things
    processes: Things = frozenset()
    files: Things = frozenset()

    def beyond(self, before: Snapshot) -> Snapshot:
        """What is here and wasn't before."""
        return Snapshot(**{kind.name: getattr(self, kind.name) - getattr(before, kind.name) for kind in fields(self)})

    def common(self, other: Snapshot) -> Snapshot:
        """What is in both."""
        return Snapshot(**{kind.name: getattr(self, kind.name) & getattr(other, kind.name) for kind in fields(self)})

    def lines(self) -> list[str]:
        """One line a thing: `mounts: 153 /tmp/x (tmpfs)`. Empty if there is nothing."""
        return [f"{kind.name}: {thing}" for kind in fields(self) for thing in sorted(getattr(self, kind.name))]


def read(path: Path) -> bytes:
    """A file of /proc or /sys, or nothing if what it describes is gone or not ours to read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def names(folder: Path) -> Things:
    """The names in a folder, none if it isn't there."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def mounts(proc: Path, folder: Path) -> Things:
    """Every mount of this mount namespace: its number, mount point and kind (proc_pid_mountinfo(5)).

    Not those in other temporary folders than the session's: all of ours go into `folder`, so somebody else works there.
    """
    found = []
    for line in os.fsdecode(read(proc / "self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        number, point = left.split(" ")[0], left.split(" ")[4]
        if f"{point}/".startswith(f"{folder}/") or not point.startswith(f"{folder.parent}/"):
            found.append(f"{number} {point} ({right.split(' ')[0]})")
    return frozenset(found)


def cgroups(tree: Path, proc: Path, sign: str, folder: Path) -> Things:
    """Every cgroup below one named `minicontainer`, in every hierarchy, that is empty or holds processes of ours."""
    found = []
    for top in (tree / "minicontainer", *tree.glob("*/minicontainer")):
        groups = [Path(path) for path, _, _ in os.walk(top)]
        # The top itself is everybody's: it is a leak only where nothing is in it.
        for group in groups[1:] or groups:
            processes = [proc / os.fsdecode(pid) for pid in read(group / "cgroup.procs").split()]
            if not processes or any(is_ours(process, sign, folder) for process in processes):
                found.append(str(group))
    return frozenset(found)


def is_ours(process: Path, sign: str, folder: Path) -> bool:
    """Is the root of a container's process in our folder, or is the process, or an ancestor, ours or signed by us?"""
    for line in os.fsdecode(read(process / "mountinfo")).splitlines():
        if line.split(" ")[4] == "/" and f"upperdir={folder}/" in line:
            return True
    for _ in range(50):
        if process.name == str(os.getpid()) or is_signed(process, sign):
            return True
        if process.name == "0":
            break
        process = process.with_name(parent(process))
    return False


def is_signed(process: Path, sign: str) -> bool:
    """Was a process started with the sign of this session in its environment?"""
    return any(entry.startswith(f"{SIGN}={sign}".encode()) for entry in read(process / "environ").split(b"\0"))


def parent(process: Path) -> str:
    """The number of a process's parent, "0" if it is gone (proc_pid_stat(5))."""
    words = os.fsdecode(read(process / "stat")).rpartition(")")[2].split()
    return words[1] if len(words) > 1 else "0"


def tables() -> Things:
    """The nft tables, where there is nft and we may look."""
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return frozenset()
    listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return frozenset(listing.splitlines())


def processes(proc: Path, sign: str, folder: Path) -> Things:
    """Processes of this session: those that carry its sign, our children, and those with files of its folder open."""
    own = str(os.getpid())
    found = []
    for process in proc.iterdir():
        if not process.name.isdigit() or process.name == own:
            continue
        if is_signed(process, sign) or parent(process) == own or holds(process, folder):
            command = os.fsdecode(read(process / "cmdline").replace(b"\0", b" ")).strip()
            found.append(f"{process.name} {command[:100] or os.fsdecode(read(process / 'comm')).strip()}")
    return frozenset(found)


def holds(process: Path, folder: Path) -> bool:
    """Has a process its working folder, its root or an open file in `folder`?"""
    for link in (process / "cwd", process / "root", *(process / "fd" / name for name in names(process / "fd"))):
        try:
            if os.readlink(link).startswith(f"{folder}/"):
                return True
        except OSError:
            continue
    return False


def look(
    sign: str, folder: Path, proc: Path = Path("/proc"), sys: Path = Path("/sys"), run: Path = Path("/run")
) -> Snapshot:
    """A snapshot of the host, with the processes and files of the session that `sign` and `folder` stand for."""
    state = os.environ.get("MINICONTAINER_ROOT") or "/var/lib/minicontainer"
    return Snapshot(
        mounts=mounts(proc, folder),
        cgroups=cgroups(sys / "fs/cgroup", proc, sign, folder),
        interfaces=names(sys / "class/net"),
        namespaces=names(run / "netns"),
        tables=tables(),
        containers=frozenset(f"{state}/containers/{name}" for name in names(Path(state, "containers"))),
        processes=processes(proc, sign, folder),
        files=frozenset(f"{folder}/{name}" for name in names(folder) if not name.startswith("pytest-of-")),
    )


def leaks(before: Snapshot, sign: str, folder: Path, settle: float) -> Snapshot:
    """What is new since `before` and stays: it is there at every look during `settle` seconds."""
    deadline = time.monotonic() + settle
    found = look(sign, folder).beyond(before)
    while found.lines() and time.monotonic() < deadline:
        time.sleep(0.1)
        found = found.common(look(sign, folder))
    return found


def file_system(path: Path) -> str:
    """The kind of file system that holds `path`, such as "ext4"."""
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4]
        if len(point) >= len(best) and f"{path}/".startswith(f"{point.rstrip('/')}/"):
            best, kind = point, right.split(" ")[0]
    return kind


class Session:
    """One run of pytest: its sign, its temporary folder, and what was there before it."""

    def __init__(self) -> None:
        outer = os.environ.get(SIGN, "")  # a pytest that a test of ours runs stays ours: its sign continues our own
        self.sign = f"{outer}{os.urandom(8).hex()}."
        # Not on an overlay, as in many containers: there an overlay's upper folder is refused.
        roots = [Path(root) for root in (tempfile.gettempdir(), "/var/tmp", "/dev/shm")]
        root = next((root for root in roots if file_system(root) != "overlay"), roots[0])
        remove_abandoned(root)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self.folder.chmod(0o711)  # other users, which containers run as, may pass through
        self.lock = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # as long as we live: that nobody takes it for abandoned
        self.found: Snapshot | None = None
        os.environ[SIGN] = self.sign
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)

    def close(self) -> None:
        """Remove the temporary folder, unless something was left that a person will want to look at."""
        if not (self.found and self.found.lines()):
            remove_folder(self.folder)
        os.close(self.lock)


def remove_folder(folder: Path) -> None:
    """Remove a session's folder, unless something is still mounted in it."""
    if not any(f" {folder}/" in mount for mount in mounts(Path("/proc"), folder)):
        # Not shutil.rmtree, which doesn't come to an end in trees deeper than Python's stack, as some tests make.
        subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], stderr=subprocess.DEVNULL, check=False)


def remove_abandoned(root: Path) -> None:
    """Remove the folders of sessions that were killed, or that left their leaks for a person to look at."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - folder.stat().st_mtime > 60:  # not one that is being made at this moment
                remove_folder(folder)
        except OSError:  # its session lives
            continue
        finally:
            os.close(descriptor)


SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--leak-settle: how long what the tests ended may take to be gone."""
    parser.addoption("--leak-settle", type=float, default=5.0, metavar="SECONDS", help="grace before a leak is one (5)")


def pytest_configure(config: pytest.Config) -> None:
    """Give this session its sign and its folder, before anything makes temporary files."""
    config.stash[SESSION] = Session()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Tidy up, after pytest has removed its own temporary folders."""
    if session := config.stash.get(SESSION, None):
        session.close()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(pytestconfig: pytest.Config):
    """Set up before and torn down after every other fixture of the session: its failure is the run's."""
    session = pytestconfig.stash[SESSION]
    before = look(session.sign, session.folder)
    yield
    session.found = leaks(before, session.sign, session.folder, pytestconfig.getoption("--leak-settle"))
    if lines := session.found.lines():
        pytest.fail("the tests left behind on this host:\n  " + "\n  ".join(lines), pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was found, apart from the test that happened to be the last."""
    found = config.stash[SESSION].found
    if found is None:
        return
    if lines := found.lines():
        terminalreporter.section("left behind", sep="=", red=True, bold=True)
        for line in lines:
            terminalreporter.write_line(line)
    else:
        kinds = ", ".join(kind.name for kind in fields(found))
        terminalreporter.write_line(f"left behind on this host ({kinds}): nothing")
