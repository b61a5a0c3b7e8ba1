"""What the other tests marked cgroup2 take for granted, on a host or guest with pure cgroup v2 (cgroups(7))."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path("/sys/fs/cgroup")
MIB = 1 << 20

pytestmark = [
    pytest.mark.cgroup2,
    pytest.mark.skipif(not (TREE / "cgroup.controllers").exists(), reason="the groups here aren't purely of version 2"),
]


@pytest.fixture
def group() -> Iterator[Path]:
    """A new group below minicontainer, with the controllers that containers need."""
    parent = TREE / "minicontainer"
    made = not parent.exists()
    parent.mkdir(exist_ok=True)
    (parent / "cgroup.subtree_control").write_text("+memory +pids +cpu +cpuset")
    folder = parent / f"sanity-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()
    if made:
        parent.rmdir()


def run_in(group: Path, program: str, *arguments: object) -> int:
    """Run a Python program in the group, its arguments from sys.argv[2] on. Its exit status as subprocess has it."""
    enter = "import os, sys; open(sys.argv[1], 'w').write('0')\n"
    command = [sys.executable, "-I", "-S", "-c", enter + program, str(group / "cgroup.procs"), *map(str, arguments)]
    return subprocess.run(command, check=False).returncode


def test_no_hierarchy_of_version_1_is_mounted():
    kinds = [line.rpartition(" - ")[2].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert "cgroup2" in kinds
    assert "cgroup" not in kinds


def test_the_controllers_are_there():
    assert {"cpu", "cpuset", "memory", "pids"} <= set((TREE / "cgroup.controllers").read_text().split())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_memory_limit_is_enforced(group):
    (group / "memory.max").write_text(str(64 * MIB))
    if (group / "memory.swap.max").exists():
        (group / "memory.swap.max").write_text("0")
    touch = "block = b'x' * int(sys.argv[2])"
    assert run_in(group, touch, 16 * MIB) == 0
    assert run_in(group, touch, 128 * MIB) == -signal.SIGKILL
    assert "oom_kill 1" in (group / "memory.events").read_text().splitlines()


FORKS = """
read, write = os.pipe()
children, code = [], 0
try:
    for _ in range(int(sys.argv[2])):
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)  # until the parent closes its end
            os._exit(0)
        children.append(pid)
except BlockingIOError:
    code = 11
os.close(write)
for pid in children:
    os.waitpid(pid, 0)
sys.exit(code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_limit_of_processes_is_enforced(group):
    (group / "pids.max").write_text("3")
    assert run_in(group, FORKS, 2) == 0
    assert run_in(group, FORKS, 3) == 11
