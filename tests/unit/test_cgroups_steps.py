"""The steps of a control group, performed on folders that stand in for the kernel's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from minicontainer.errors import HostError
from minicontainer.isolation.cgroups import (
    CreateCgroup,
    EnableControllers,
    InheritCpuset,
    JoinCgroup,
    SetLimit,
    VacateCgroup,
)
from minicontainer.step import Site, Step


def perform(step: Step) -> None:
    step.execute(Site())


def type_it(step: Step) -> None:
    """What a person does with `describe`."""
    subprocess.run(["sh", "-ec", step.describe()], check=True)


def files(folder: Path, **contents: str) -> Path:
    """A group with the kernel's files in it; a double underscore stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


both = pytest.mark.parametrize("do", [perform, type_it])


@both
def test_a_group_is_made_with_the_one_that_it_lies_in(tmp_path: Path, do: object) -> None:
    assert callable(do)
    do(CreateCgroup(str(tmp_path / "minicontainer/c1")))
    assert (tmp_path / "minicontainer/c1").is_dir()


def test_a_second_container_lies_beside_the_first(tmp_path: Path) -> None:
    for name in ("c1", "c2"):
        perform(CreateCgroup(str(tmp_path / "minicontainer" / name)))
    assert sorted(os.listdir(tmp_path / "minicontainer")) == ["c1", "c2"]


def test_what_a_killed_start_has_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / "minicontainer/c1"
    (left / "made by the container").mkdir(parents=True)
    perform(CreateCgroup(str(left)))
    assert os.listdir(left) == []


def test_no_tree_is_made_where_none_is_mounted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        perform(CreateCgroup(str(tmp_path / "not mounted/minicontainer/c1")))


def test_a_parent_that_another_one_removes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, really = tmp_path / "minicontainer/c1", os.mkdir
    removals = iter([True, True])

    def mkdir(path: str, mode: int = 0o777) -> None:
        if path == str(group) and group.parent.is_dir() and next(removals, False):
            group.parent.rmdir()
        really(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    perform(CreateCgroup(str(group)))
    assert group.is_dir()
    assert next(removals, None) is None


def test_undo_removes_the_group_and_the_empty_parent(tmp_path: Path) -> None:
    step = CreateCgroup(str(tmp_path / "minicontainer/c1"))
    perform(step)
    step.undo(Site())
    assert os.listdir(tmp_path) == []
    step.undo(Site())  # undone already: nothing to do


def test_undo_leaves_the_groups_of_others(tmp_path: Path) -> None:
    steps = [CreateCgroup(str(tmp_path / "minicontainer" / name)) for name in ("c1", "c2")]
    for step in steps:
        perform(step)
    steps[0].undo(Site())
    assert os.listdir(tmp_path / "minicontainer") == ["c2"]


@both
def test_a_limit_is_written(tmp_path: Path, do: object) -> None:
    assert callable(do)
    group = files(tmp_path / "a b", memory__max="max\n")
    do(SetLimit(f"{group}/memory.max", "64M"))
    assert (group / "memory.max").read_text().strip() == "64M"
    do(SetLimit(f"{group}/not there/memory.swap.max", "64M", required=False))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("memory.swap.max", "swap limit capabilities"),
        ("memory.memsw.limit_in_bytes", "swap limit capabilities"),
        ("memory.max", "memory limit capabilities"),
        ("cpu.cfs_quota_us", "CPU CFS scheduler"),
        ("cpu.max", "CPU CFS scheduler"),
        ("cpu.weight", "CPU shares"),
        ("pids.max", "PIDs limit capabilities"),
    ],
)
def test_a_kernel_without_the_limit_is_named_in_the_words_of_docker(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(HostError) as caught:
        perform(SetLimit(f"{tmp_path}/{name}", "1"))
    assert caught.value.message == f"Your kernel does not support {words} or the cgroup is not mounted"
    assert not (tmp_path / name).exists()


def test_a_refused_value_names_its_file(tmp_path: Path) -> None:
    full = tmp_path / "pids.max"
    full.symlink_to("/dev/full")  # takes nothing: write(2) fails
    with pytest.raises(OSError, match="No space") as caught:
        perform(SetLimit(str(full), "1"))
    assert caught.value.filename == str(full)


@both
def test_controllers_are_enabled_in_one_write(tmp_path: Path, do: object) -> None:
    assert callable(do)
    files(tmp_path, cgroup__subtree_control="")
    do(EnableControllers(str(tmp_path), ("cpu", "memory")))
    assert (tmp_path / "cgroup.subtree_control").read_text().strip() == "+cpu +memory"


def test_a_refused_controller_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    really = os.write

    def write(fd: int, data: bytes) -> int:
        asked.append(data)
        if b"+cpu" in data:
            raise OSError(22, "Invalid argument")
        return really(fd, data)

    files(tmp_path, cgroup__subtree_control="")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        perform(EnableControllers(str(tmp_path), ("cpu", "memory")))
        assert asked == [b"+cpu +memory", b"+cpu", b"+memory"]
        with pytest.raises(OSError, match="Invalid argument"):
            perform(EnableControllers(str(tmp_path), ("cpu",)))


@both
def test_processes_move_down(tmp_path: Path, do: object) -> None:
    assert callable(do)
    target = files(tmp_path / "minicontainer/supervisor", cgroup__procs="")
    files(tmp_path, cgroup__procs="0\n17\n")
    do(VacateCgroup(str(tmp_path), str(target)))
    # A folder doesn't take 17 off the list above, as the kernel would, so it is moved again until patience ends.
    assert (target / "cgroup.procs").read_text().strip() == "17"


@both
def test_a_cpuset_is_copied_from_above(tmp_path: Path, do: object) -> None:
    assert callable(do)
    files(tmp_path, cpuset__cpus="0-1\n", cpuset__mems="0\n")
    group = files(tmp_path / "minicontainer", cpuset__cpus="\n", cpuset__mems="\n")
    do(InheritCpuset(str(group)))
    assert (group / "cpuset.cpus").read_text().strip() == "0-1"
    assert (group / "cpuset.mems").read_text().strip() == "0"


@both
def test_joining_writes_zero_to_every_file(tmp_path: Path, do: object) -> None:
    assert callable(do)
    groups = [files(tmp_path / name, tasks="") for name in ("memory", "pids")]
    do(JoinCgroup(tuple(f"{group}/tasks" for group in groups)))
    assert [(group / "tasks").read_text().strip() for group in groups] == ["0", "0"]
