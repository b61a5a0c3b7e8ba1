"""The leak check catches what it is there for: each test has an inner run of pytest leak one thing."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import leak_check
import pytest
from leak_check import Snapshot

NOTHING: frozenset[str] = frozenset()
PLUGINS = str(Path(leak_check.__file__).parent)


def run_inner(folder: Path, body: str, *wrapper: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin on one test with this body, under the command `wrapper` if one is given."""
    (folder / "test_inner.py").write_text(f"import os, subprocess, tempfile\n\ndef test_inner():\n    {body}\n")
    pytest_command = [sys.executable, "-m", "pytest", "-p", "leak_check", "-p", "no:cacheprovider", "-c", os.devnull]
    command = [*wrapper, *pytest_command, "--leak-settle=0.2", "."]
    environment = {**os.environ, "PYTHONPATH": PLUGINS, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(autouse=True)
def _remove_inner_folders():
    yield
    for folder in Path(os.environ["TMPDIR"]).glob("mc-test-*"):
        shutil.rmtree(folder)


def test_a_clean_run_passes_and_says_so(tmp_path):
    result = run_inner(tmp_path, "tempfile.TemporaryDirectory().cleanup()")
    assert result.returncode == 0, result.stdout
    assert "nothing" in result.stdout.splitlines()[-2]
    assert "1 passed" in result.stdout.splitlines()[-1]
    assert not list(Path(os.environ["TMPDIR"]).glob("mc-test-*"))


def test_a_leaked_folder_fails_the_run(tmp_path):
    result = run_inner(tmp_path, "tempfile.mkdtemp(prefix='forgotten-')")
    assert result.returncode == 1
    assert "/forgotten-" in result.stdout
    assert "1 error" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("how", ["", ", start_new_session=True, env={}, cwd=tempfile.mkdtemp()"])
def test_a_leaked_process_fails_the_run(tmp_path, how):
    number = tmp_path / "pid"
    # Started by a process that ends at once: it is nobody's child by then.
    body = f"subprocess.run(['sh', '-c', 'sleep 600 >/dev/null 2>&1 & echo $! > {number}']{how}, check=True)"
    try:
        result = run_inner(tmp_path, body)
    finally:
        os.kill(int(number.read_text()), signal.SIGKILL)
    assert result.returncode == 1
    assert f"processes: {number.read_text().strip()} sleep 600" in result.stdout


@pytest.mark.kernel
def test_a_leaked_mount_fails_the_run(tmp_path):
    body = "subprocess.run(['mount', '-t', 'tmpfs', 'none', tempfile.mkdtemp(prefix='target-')], check=True)"
    result = run_inner(tmp_path, body, "unshare", "--mount")  # the mount goes with the mount namespace
    assert result.returncode == 1
    assert re.search(r"^mounts: \d+ \S+/target-\S+ \(tmpfs\)$", result.stdout, re.MULTILINE)


def test_a_mount_in_somebody_elses_temporary_folder_is_not_ours(tmp_path):
    (tmp_path / "self").mkdir()
    points = ("/", "/tmp", "/tmp/ours/x", "/tmp/oursnot/x", "/tmp/theirs/proc", "/mnt/x")
    lines = [f"{number} 1 0:1 / {point} rw - tmpfs none rw\n" for number, point in enumerate(points)]
    (tmp_path / "self/mountinfo").write_text("".join(lines))
    found = leak_check.mounts(tmp_path, Path("/tmp/ours"))
    assert found == {"0 / (tmpfs)", "1 /tmp (tmpfs)", "2 /tmp/ours/x (tmpfs)", "5 /mnt/x (tmpfs)"}


@pytest.mark.kernel
def test_a_leaked_interface_and_a_leaked_table_fail_the_run(tmp_path, needs):
    needs("nft")
    body = (
        "[subprocess.run(c.split(), check=True) for c in ('ip link add mc9 type bridge', 'nft add table inet leaked')]"
    )
    # sysfs shows the interfaces of the network namespace that it was mounted in
    wrapper = ("unshare", "--mount", "--net", "sh", "-c", 'mount -t sysfs none /sys && exec "$@"', "sh")
    result = run_inner(tmp_path, body, *wrapper)
    assert result.returncode == 1
    assert "interfaces: mc9" in result.stdout
    assert "tables: table inet leaked" in result.stdout


def fake_process(proc: Path, number: int, parent: int, environ: str) -> None:
    folder = proc / str(number)
    (folder / "fd").mkdir(parents=True)
    (folder / "environ").write_bytes(environ.encode())
    (folder / "cmdline").write_bytes(b"sleep\x0060\0")
    (folder / "comm").write_text("sleep\n")
    (folder / "stat").write_text(f"{number} (a ) name) S {parent} 0 0\n")


@pytest.fixture
def groups(tmp_path):
    """Make cgroups, with processes in them, and say which are leaks of the session "ours."."""

    def leaked(**processes: int) -> set[str]:
        for name, number in processes.items():
            group = tmp_path / "cgroup" / name.replace("__", "/")
            group.mkdir(parents=True)
            (group / "cgroup.procs").write_text(f"{number}\n" if number else "")
        found = leak_check.cgroups(tmp_path / "cgroup", tmp_path / "proc", "ours.", Path("/tmp/ours"))
        return {str(Path(path).relative_to(tmp_path / "cgroup")).replace("/", "__") for path in found}

    return leaked


def test_an_empty_cgroup_is_a_leak_in_every_hierarchy(groups):
    found = groups(memory__minicontainer__abc=0, minicontainer__abc=0, memory__docker__abc=0)
    assert found == {"memory__minicontainer__abc", "minicontainer__abc"}


def test_an_empty_parent_cgroup_is_a_leak(groups):
    assert groups(memory__minicontainer=0) == {"memory__minicontainer"}


def test_a_cgroup_is_ours_by_the_sign_of_its_processes_ancestor(groups, tmp_path):
    fake_process(tmp_path / "proc", 10, 1, f"A=1\0{leak_check.SIGN}=ours.\0")  # the monitor
    fake_process(tmp_path / "proc", 11, 1, f"A=1\0{leak_check.SIGN}=theirs.\0")
    for number, monitor in ((20, 10), (21, 11), (22, 1)):
        fake_process(tmp_path / "proc", number, monitor, "PATH=/bin\0")  # in the container
    found = groups(minicontainer__a=20, minicontainer__b=21, minicontainer__c=22)
    assert found == {"minicontainer__a"}


def test_a_cgroup_is_ours_by_the_root_of_its_processes(groups, tmp_path):
    for number, upper in ((20, "/tmp/ours/state/x/upper"), (21, "/tmp/theirs/state/x/upper")):
        fake_process(tmp_path / "proc", number, 1, "")
        line = f"1 0 0:9 / / rw - overlay overlay rw,lowerdir=/l,upperdir={upper}\n"
        (tmp_path / "proc" / str(number) / "mountinfo").write_text(line)
    assert groups(minicontainer__a=20, minicontainer__b=21) == {"minicontainer__a"}


def test_an_inner_sessions_process_is_the_outer_ones_too(tmp_path):
    fake_process(tmp_path, 20, 1, f"{leak_check.SIGN}=outer.inner.\0")
    assert leak_check.processes(tmp_path, "outer.", Path("/nowhere")) == {"20 sleep 60"}
    assert leak_check.processes(tmp_path, "other.", Path("/nowhere")) == NOTHING


def test_only_what_is_new_is_a_leak():
    before = Snapshot(frozenset({"1 /"}), NOTHING, frozenset({"lo"}), NOTHING, NOTHING, NOTHING)
    after = Snapshot(frozenset({"1 /", "2 /x"}), NOTHING, frozenset({"lo"}), NOTHING, NOTHING, NOTHING)
    assert after.beyond(before).lines() == ["mounts: 2 /x"]
    assert after.beyond(after).lines() == []


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount():
    assert leak_check.file_system(Path("/proc/self")) == "proc"
    assert leak_check.file_system(Path("/")) not in ("", "proc")


def test_only_abandoned_folders_are_removed(tmp_path):
    for name in ("mc-test-dead", "mc-test-alive", "mc-test-newborn", "other"):
        (tmp_path / name / "inside").mkdir(parents=True)
        os.utime(tmp_path / name, (0, 0) if name != "mc-test-newborn" else None)
    lock = os.open(tmp_path / "mc-test-alive", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    leak_check.remove_abandoned(tmp_path)
    os.close(lock)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mc-test-alive", "mc-test-newborn", "other"]
