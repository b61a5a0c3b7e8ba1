"""Finding the control groups: three layouts of /sys/fs/cgroup, as folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.isolation.cgroups import Hierarchies, Hierarchy, detect
from minicontainer.paths import Paths

ROOT_LINE = "23 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"


def kernel(tmp_path: Path, mounts: list[str], own: str) -> Paths:
    """A folder for /proc and one for /sys/fs/cgroup; {} in `mounts` stands for the latter."""
    cgroup, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    cgroup.mkdir()
    lines = "".join(f"{number} 23 0:{number} {line}\n" for number, line in enumerate(mounts, 30))
    (proc / "self/mountinfo").write_text(ROOT_LINE + lines.replace("{}", str(cgroup)))
    (proc / "self/cgroup").write_text(own)
    return Paths(state=str(tmp_path / "state"), cgroup=str(cgroup), proc=str(proc))


def v1(tmp_path: Path) -> Paths:
    """Version 1 as systemd mounted it: two controllers share a tree, and one tree has a name and no controller."""
    names = ("cpu,cpuacct", "memory", "pids", "freezer", "cpuset", "systemd")
    mounts = [f"/ {{}}/{name} rw,nosuid shared:9 - cgroup cgroup rw,{name}" for name in names[:-1]]
    mounts.append("/ {}/systemd rw,nosuid shared:8 - cgroup cgroup rw,xattr,name=systemd")
    own = "5:cpuset:/\n4:freezer:/\n3:pids:/x\n2:memory:/x\n1:cpu,cpuacct:/x\n6:name=systemd:/x\n"
    paths = kernel(tmp_path, mounts, own)
    for name in names:
        (Path(paths.cgroup) / name).mkdir()
    return paths


def unified(folder: Path, controllers: str, procs: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text(controllers + "\n")
    if procs is not None:  # not the kernel's real root
        (folder / "cgroup.type").write_text("domain\n")
        (folder / "cgroup.procs").write_text(procs)


def v2(tmp_path: Path, procs: str | None = None, visible: str = "/", own: str = "/user.slice/x.scope") -> Paths:
    paths = kernel(tmp_path, [f"{visible} {{}} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"], f"0::{own}\n")
    unified(Path(paths.cgroup), "cpuset cpu io memory hugetlb pids rdma misc", procs)
    return paths


def deny(monkeypatch: pytest.MonkeyPatch, *allowed: str) -> None:
    """Be a user who may write to the `allowed` folders only (root, as which the tests may run, may write to all)."""
    monkeypatch.setattr(os, "access", lambda path, _: str(path) in allowed)


def test_version_1_with_controllers_that_share_a_tree(tmp_path: Path) -> None:
    paths = v1(tmp_path)
    found = detect(paths)
    assert found.version == "v1"
    assert found.of("cpu") == Hierarchy(f"{paths.cgroup}/cpu,cpuacct", 1, ("cpu", "cpuacct"))
    assert found.of("cpuacct") is found.of("cpu")
    assert found.of("hugetlb") is None
    assert [tree.mount.rsplit("/", 1)[1] for tree in found.used()] == ["memory", "pids", "cpu,cpuacct", "freezer"]
    assert found.used(cpuset=True)[3].controllers == ("cpuset",)


def test_a_named_tree_alone_does_not_make_a_version(tmp_path: Path) -> None:
    paths = kernel(tmp_path, ["/ {}/systemd rw - cgroup cgroup rw,xattr,name=systemd"], "1:name=systemd:/\n")
    assert detect(paths).version == "none"


def test_version_2(tmp_path: Path) -> None:
    paths = v2(tmp_path)
    found = detect(paths)
    assert found.version == "v2"
    (tree,) = found.used(cpuset=True)
    assert (tree.mount, tree.base, tree.version) == (paths.cgroup, "", 2)
    assert not tree.crowded
    assert found.of("memory") is found.of("pids") is found.unified is tree
    assert found.of("freezer") is None


def hybrid(tmp_path: Path, first: str, second: str) -> Hierarchies:
    mounts = [f"/ {{}}/{name} rw - cgroup cgroup rw,{name}" for name in first.split()]
    mounts.append("/ {}/unified rw - cgroup2 cgroup2 rw")
    own = "".join(f"1:{name}:/\n" for name in first.split()) + "0::/\n"
    paths = kernel(tmp_path, mounts, own)
    for name in first.split():
        (Path(paths.cgroup) / name).mkdir()
    unified(Path(paths.cgroup) / "unified", second)
    return detect(paths)


def test_hybrid_leaves_a_unified_tree_that_limits_nothing(tmp_path: Path) -> None:
    found = hybrid(tmp_path, "memory pids cpu cpuacct freezer", "hugetlb")
    assert found.version == "hybrid"
    assert found.unified is None
    assert found.of("hugetlb") is not None
    names = [tree.mount.rsplit("/", 1)[1] for tree in found.used()]
    assert names == ["memory", "pids", "cpu", "cpuacct", "freezer"]


def test_hybrid_takes_each_controller_where_it_lives(tmp_path: Path) -> None:
    found = hybrid(tmp_path, "cpu cpuacct freezer", "memory pids")
    assert found.unified is not None
    assert found.unified is found.of("memory")
    # Its cgroup.kill and cpu.stat replace the trees of freezer and cpuacct.
    assert [tree.mount.rsplit("/", 1)[1] for tree in found.used()] == ["unified", "cpu"]


def test_mounts_elsewhere_are_not_ours(tmp_path: Path) -> None:
    paths = v2(tmp_path)
    info = Path(paths.proc) / "self/mountinfo"
    info.write_text(info.read_text() + "90 23 0:90 / /elsewhere/memory rw - cgroup cgroup rw,memory\n")
    info.write_text(info.read_text() + f"91 23 0:91 / {paths.cgroup}-other rw - cgroup2 cgroup2 rw\n")
    assert [tree.mount for tree in detect(paths).trees] == [paths.cgroup]


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    paths = v2(tmp_path / "a b")
    info = Path(paths.proc) / "self/mountinfo"
    info.write_text(info.read_text().replace("a b", "a\\040b"))
    assert [tree.mount for tree in detect(paths).trees] == [paths.cgroup]


@pytest.mark.parametrize("missing", ["mountinfo", "cgroup"])
def test_no_control_groups_at_all(tmp_path: Path, missing: str) -> None:
    paths = kernel(tmp_path, [], "")
    assert detect(paths) == Hierarchies("none")
    (Path(paths.proc) / "self" / missing).unlink()
    assert detect(paths) == Hierarchies("none")


@pytest.mark.parametrize(("procs", "crowded"), [(None, False), ("", False), ("1\n7\n", True)])
def test_the_top_of_a_container_is_crowded_while_processes_are_in_it(
    tmp_path: Path, procs: str | None, crowded: bool
) -> None:
    tree = detect(v2(tmp_path, procs, own="/")).unified
    assert tree is not None
    assert tree.crowded is crowded


def test_a_user_gets_the_group_that_was_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "/user.slice/user-1000.slice/run-7.scope"
    paths = v2(tmp_path, own=own)
    unified(Path(paths.cgroup + own), "memory pids", procs="7\n")
    deny(monkeypatch, paths.cgroup + own)
    tree = detect(paths).unified
    assert tree == Hierarchy(paths.cgroup, 2, ("memory", "pids"), own, writable=True, crowded=True)
    assert tree.group("c1") == f"{paths.cgroup}{own}/minicontainer/c1"


def test_a_delegated_group_is_found_again_from_the_supervisor_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = v2(tmp_path, own="/run-7.scope/minicontainer/supervisor")
    unified(Path(paths.cgroup) / "run-7.scope", "memory pids", procs="")
    deny(monkeypatch, paths.cgroup + "/run-7.scope")
    tree = detect(paths).unified
    assert tree is not None
    assert (tree.base, tree.crowded) == ("/run-7.scope", False)


def test_a_group_seen_through_a_bind_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = v2(tmp_path, visible="/docker/1f", own="/docker/1f/mine")
    unified(Path(paths.cgroup) / "mine", "pids", procs="")
    deny(monkeypatch, paths.cgroup + "/mine")
    tree = detect(paths).unified
    assert tree is not None
    assert tree.base == "/mine"


@pytest.mark.parametrize("own", ["/", "/../../outside", "/session-3.scope"])
def test_nothing_is_writable_for_a_user_without_delegation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    paths = v2(tmp_path, own=own)
    deny(monkeypatch, *([paths.cgroup + own] if ".." in own else []))  # outside of what is mounted is never ours
    tree = detect(paths).unified
    assert tree is not None
    assert not tree.writable


def test_version_1_says_which_trees_are_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = v1(tmp_path)
    deny(monkeypatch, f"{paths.cgroup}/memory")
    assert [tree.controllers for tree in detect(paths).trees if tree.writable] == [("memory",)]
