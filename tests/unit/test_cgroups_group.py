"""A container's groups after the start, on folders that stand in for the kernel's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minicontainer.isolation.cgroups import Cgroup, Hierarchies, Hierarchy, cgroup_of
from minicontainer.isolation.cgroups.tree import kill_tree, processes_in, remove_tree


def version_1(tmp_path: Path) -> Cgroup:
    names = ("memory", "pids", "cpu", "cpuacct", "freezer", "cpuset")
    return cgroup_of(Hierarchies("v1", tuple(Hierarchy(f"{tmp_path}/{n}", 1, (n,)) for n in names)), "c1")


def version_2(tmp_path: Path) -> Cgroup:
    return cgroup_of(Hierarchies("v2", (Hierarchy(str(tmp_path), 2, ("memory", "pids", "cpu")),)), "c1")


def put(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text(text)


def test_version_1_lies_in_all_trees(tmp_path: Path) -> None:
    cgroup = version_1(tmp_path)
    names = {Path(directory).relative_to(tmp_path).parts[0] for directory in cgroup.directories}
    assert names == {"memory", "pids", "cpu", "cpuacct", "freezer", "cpuset"}
    assert cgroup.main == f"{tmp_path}/freezer/minicontainer/c1"
    assert cgroup.unified == ""


def test_version_2_is_one_directory(tmp_path: Path) -> None:
    cgroup = version_2(tmp_path)
    assert cgroup.directories == (f"{tmp_path}/minicontainer/c1",)
    assert cgroup.main == cgroup.memory == cgroup.unified == cgroup.directories[0]


def test_version_1_statistics(tmp_path: Path) -> None:
    cgroup = version_1(tmp_path)
    put(f"{cgroup.memory}/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    put(f"{cgroup.memory}/nested/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    put(f"{cgroup.memory}/memory.usage_in_bytes", "4096\n")
    put(f"{cgroup.cpuacct}/cpuacct.usage", "123456789\n")
    assert (cgroup.oom_kills(), cgroup.memory_usage(), cgroup.cpu_usage()) == (3, 4096, 123_456_789)


def test_version_2_statistics(tmp_path: Path) -> None:
    cgroup = version_2(tmp_path)
    put(f"{cgroup.unified}/memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n")
    put(f"{cgroup.unified}/memory.current", "8192\n")
    put(f"{cgroup.unified}/cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n")
    assert (cgroup.oom_kills(), cgroup.memory_usage(), cgroup.cpu_usage()) == (3, 8192, 1_500_000)


def nowhere(tmp_path: Path) -> Cgroup:
    return cgroup_of(Hierarchies("none"), "c1")


@pytest.mark.parametrize("make", [version_1, version_2, nowhere])
def test_groups_that_are_not_there_count_nothing(tmp_path: Path, make: object) -> None:
    assert callable(make)
    cgroup = make(tmp_path)
    assert not cgroup.exists()
    assert (cgroup.oom_kills(), cgroup.memory_usage(), cgroup.cpu_usage(), cgroup.processes()) == (0, 0, 0, [])
    assert cgroup.kill_all()
    cgroup.remove()


@pytest.mark.parametrize("make", [version_1, version_2])
def test_removal_takes_nested_groups_and_the_empty_parent(tmp_path: Path, make: object) -> None:
    assert callable(make)
    cgroup = make(tmp_path)
    for directory in cgroup.directories:
        os.makedirs(f"{directory}/a/b/c")
    assert cgroup.exists()
    cgroup.remove()
    assert not cgroup.exists()
    assert [path for path in tmp_path.rglob("*") if path.name == "minicontainer"] == []


def test_removal_leaves_the_groups_of_others(tmp_path: Path) -> None:
    cgroup = version_2(tmp_path)
    os.makedirs(cgroup.unified)
    (tmp_path / "minicontainer/c2").mkdir()
    cgroup.remove()
    assert os.listdir(tmp_path / "minicontainer") == ["c2"]


def test_groups_nested_deeper_than_python_recurses(tmp_path: Path) -> None:
    group = f"{tmp_path}/c1"
    for _ in range(1200):
        os.mkdir(group)
        group += "/n"
    remove_tree(str(tmp_path / "c1"))
    assert os.listdir(tmp_path) == []


def test_a_busy_group_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c1").mkdir()
    really, refusals = os.rmdir, iter([True] * 3)

    def rmdir(path: str) -> None:
        if next(refusals, False):
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        really(path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    remove_tree(str(tmp_path / "c1"))
    assert not (tmp_path / "c1").exists()


def test_a_group_that_stays_busy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c1").mkdir()

    def rmdir(path: str) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(OSError, match="c1") as caught:
        remove_tree(str(tmp_path / "c1"), patience=0.01)
    assert caught.value.errno == errno.EBUSY


def test_processes_of_the_whole_tree_each_once(tmp_path: Path) -> None:
    put(f"{tmp_path}/cgroup.procs", "30\n7\n0\n")
    put(f"{tmp_path}/nested/cgroup.procs", "7\n12\n")
    assert processes_in(str(tmp_path)) == [7, 12, 30]


def test_processes_out_of_sight_and_ourselves_are_never_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 stands for a process in an outer PID namespace: kill(0) would kill the whole process group of the engine."""
    killed: list[int] = []
    put(f"{tmp_path}/cgroup.procs", f"0\n{os.getpid()}\n")
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    assert kill_tree(str(tmp_path))
    assert killed == []


def test_killing_freezes_first_and_thaws_always(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    state = tmp_path / "freezer.state"
    nested = tmp_path / "nested"
    put(str(state), "THAWED\n")
    put(f"{nested}/freezer.state", "FROZEN\n")  # frozen by the container itself
    put(f"{tmp_path}/cgroup.procs", "4194304\n")

    def kill(pid: int, signal: int) -> None:
        seen.append(f"{pid} {signal} {state.read_text()}")
        (tmp_path / "cgroup.procs").write_text("")
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    assert kill_tree(str(tmp_path))
    assert seen == ["4194304 9 FROZEN"]
    assert state.read_text() == "THAWED"
    assert (nested / "freezer.state").read_text() == "THAWED"


def test_the_kernel_kills_by_itself_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{tmp_path}/cgroup.kill", "")
    put(f"{tmp_path}/cgroup.procs", "4194304\n")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("one by one"))
    assert not kill_tree(str(tmp_path), patience=0.01)  # in a folder nobody dies of it
    assert (tmp_path / "cgroup.kill").read_text() == "1"


def test_a_process_that_does_not_die_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{tmp_path}/cgroup.procs", "4194304\n")
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    assert not kill_tree(str(tmp_path), patience=0.01)
    assert killed == [4_194_304]  # once is enough: SIGKILL stays pending
