"""`lab clean` on real processes, mounts and cgroups: ours go, another state folder's stay."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.lab import clean
from minicontainer.lab.clean import Host

CGROUP = Path("/sys/fs/cgroup")


@pytest.fixture
def group(tmp_path):
    """A cgroup that stands for a whole tree, so that only this test's groups are looked at and removed."""
    tree = next((CGROUP / name for name in ("pids", "memory") if (CGROUP / name).is_dir()), CGROUP)
    group = tree / "minicontainer" / f"clean-{tmp_path.name}-{os.getpid()}"
    (group / "tree").mkdir(parents=True)
    yield group
    for folder, _, _ in os.walk(group, topdown=False):
        os.rmdir(folder)
    with contextlib.suppress(OSError):  # containers of others may be in it
        group.parent.rmdir()


@pytest.fixture
def started():
    """Processes of the test, ended and reaped at its end."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def start(started: list, state: Path, script: str, *words: object) -> subprocess.Popen[bytes]:
    """Start a shell script that works on `state`; returns when it has printed a line."""
    environment = {**os.environ, "MINICONTAINER_ROOT": str(state)}
    command = ["bash", "-c", script, "bash", *map(str, words)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    started.append(process)
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


JOIN = 'echo $$ > "$1/cgroup.procs"; trap "" TERM; echo ready; exec sleep 600'
VIRTUAL_MACHINE = 'echo ready; exec -a qemu-system-x86_64 "$2" -c "import time; time.sleep(600)" "$1/lab/disk.img"'


def test_ours_goes_and_theirs_stays(tmp_path, group, started, monkeypatch, capsys):
    monkeypatch.setattr(clean, "PATIENCE", 0.5)
    monkeypatch.setattr(clean, "tables", list)
    state, theirs = tmp_path / "state", tmp_path / "theirs"
    (state / "containers/abc/merged").mkdir(parents=True)
    (state / "lab").mkdir()
    (tmp_path / "checkout/.cache").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", state / "containers/abc/merged"], check=True)
    parent = group / "tree" / "minicontainer"
    for name in ("abc/inner", "lost", "def", "newborn"):
        (parent / name).mkdir(parents=True)
    container = start(
        started, state, JOIN, parent / "abc/inner"
    )  # deaf to SIGTERM, as the first process of a container
    lost = start(started, state, JOIN, parent / "lost")  # of a container whose folder is gone
    machine = start(started, state, VIRTUAL_MACHINE, state, sys.executable)
    other = start(started, theirs, JOIN, parent / "def")
    host = Host(state, tmp_path / "checkout", [tmp_path / "checkout/.cache"], cgroup=group, net=tmp_path / "net")
    assert sorted(number for number, _ in clean.processes(host)) == sorted([container.pid, lost.pid, machine.pid])

    clean.end_processes(host)
    clean.take_down(host)
    clean.remove_files(host)
    host.others.clear()

    assert clean.report(host), capsys.readouterr().out
    assert container.wait() == -signal.SIGKILL
    assert machine.wait() == -signal.SIGTERM
    assert not state.exists()
    assert not (tmp_path / "checkout/.cache").exists()
    assert sorted(path.name for path in parent.iterdir() if path.is_dir()) == ["def", "newborn"]
    assert other.poll() is None
    assert f"MINICONTAINER_ROOT={theirs} ./lab clean" in capsys.readouterr().out


def test_a_state_folder_on_a_disk_of_its_own_stays_mounted(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", state], check=True)
    try:
        (state / "images").mkdir()
        host = Host(state, tmp_path, cgroup=tmp_path, net=tmp_path)
        clean.take_down(host)
        clean.remove_files(host)
        assert state.is_mount()
        assert list(state.iterdir()) == []
    finally:
        subprocess.run(["umount", state], check=True)
