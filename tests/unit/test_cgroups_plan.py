"""The plan of a container's groups: values compared with values, nothing performed."""

from __future__ import annotations

import pytest

from minicontainer.errors import HostError, InvalidArgument
from minicontainer.isolation.cgroups import (
    CreateCgroup,
    EnableControllers,
    Hierarchies,
    Hierarchy,
    InheritCpuset,
    JoinCgroup,
    Limits,
    SetLimit,
    VacateCgroup,
    cgroup_steps,
)
from minicontainer.step import CHILD

MIB = 1 << 20
V1 = Hierarchies(
    "v1",
    (
        Hierarchy("/cg/cpu,cpuacct", 1, ("cpu", "cpuacct")),
        Hierarchy("/cg/cpuset", 1, ("cpuset",)),
        Hierarchy("/cg/memory", 1, ("memory",)),
        Hierarchy("/cg/pids", 1, ("pids",)),
        Hierarchy("/cg/freezer", 1, ("freezer",)),
        Hierarchy("/cg/systemd", 1),
    ),
)
V2 = Hierarchies("v2", (Hierarchy("/cg", 2, ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")),))
HYBRID = Hierarchies(
    "hybrid",
    (
        Hierarchy("/cg/cpu", 1, ("cpu",)),
        Hierarchy("/cg/cpuset", 1, ("cpuset",)),
        Hierarchy("/cg/freezer", 1, ("freezer",)),
        Hierarchy("/cg/unified", 2, ("memory", "pids")),
    ),
)
ALL = Limits(
    memory=64 * MIB,
    memory_swap=96 * MIB,
    cpu_quota=50_000,
    cpu_shares=1024,
    cpuset_cpus="0",
    cpuset_mems="0",
    pids=32,
)


def settings(hierarchies: Hierarchies, limits: Limits) -> dict[str, str]:
    return {step.file: step.value for step in cgroup_steps(hierarchies, "c1", limits) if isinstance(step, SetLimit)}


def test_version_1_without_limits() -> None:
    groups = [f"/cg/{name}/minicontainer/c1" for name in ("memory", "pids", "cpu,cpuacct", "freezer")]
    assert cgroup_steps(V1, "c1", Limits()) == (
        *(CreateCgroup(group) for group in groups),
        JoinCgroup(tuple(f"{group}/tasks" for group in groups)),
    )


def test_version_1_with_all_limits() -> None:
    assert settings(V1, ALL) == {
        "/cg/memory/minicontainer/c1/memory.limit_in_bytes": "64M",
        "/cg/memory/minicontainer/c1/memory.memsw.limit_in_bytes": "96M",
        "/cg/pids/minicontainer/c1/pids.max": "32",
        "/cg/cpu,cpuacct/minicontainer/c1/cpu.cfs_period_us": "100000",
        "/cg/cpu,cpuacct/minicontainer/c1/cpu.cfs_quota_us": "50000",
        "/cg/cpu,cpuacct/minicontainer/c1/cpu.shares": "1024",
        "/cg/cpuset/minicontainer/c1/cpuset.cpus": "0",
        "/cg/cpuset/minicontainer/c1/cpuset.mems": "0",
    }


def test_version_1_limits_memory_before_the_sum_with_swap() -> None:
    """The kernel refuses a sum below the limit of memory, and a limit of memory above the sum."""
    assert next(iter(settings(V1, Limits(memory=MIB * 8)))).endswith("/memory.limit_in_bytes")


def test_version_1_fills_both_cpusets_before_the_join() -> None:
    steps = cgroup_steps(V1, "c1", Limits(cpuset_cpus="0"))
    inherited = [steps.index(InheritCpuset(f"/cg/cpuset/minicontainer{below}")) for below in ("", "/c1")]
    wish = steps.index(SetLimit("/cg/cpuset/minicontainer/c1/cpuset.cpus", "0"))
    created = steps.index(CreateCgroup("/cg/cpuset/minicontainer/c1"))
    assert created < inherited[0] < inherited[1] < wish < len(steps) - 1
    assert isinstance(steps[-1], JoinCgroup)
    assert "/cg/cpuset/minicontainer/c1/tasks" in steps[-1].files


def test_version_2_without_limits() -> None:
    wanted = ("cpu", "memory", "pids")
    assert cgroup_steps(V2, "c1", Limits()) == (
        CreateCgroup("/cg/minicontainer/c1"),
        EnableControllers("/cg", wanted),
        EnableControllers("/cg/minicontainer", wanted),
        JoinCgroup(("/cg/minicontainer/c1/cgroup.procs",)),
    )


def test_version_2_with_all_limits() -> None:
    group = "/cg/minicontainer/c1"
    assert settings(V2, ALL) == {
        f"{group}/memory.max": "64M",
        f"{group}/memory.swap.max": "32M",
        f"{group}/cpu.max": "50000 100000",
        f"{group}/cpu.weight": "100",
        f"{group}/cpuset.cpus": "0",
        f"{group}/cpuset.mems": "0",
        f"{group}/pids.max": "32",
    }
    assert EnableControllers("/cg", ("cpu", "memory", "pids", "cpuset")) in cgroup_steps(V2, "c1", ALL)


@pytest.mark.parametrize(
    ("limits", "value"),
    [
        (Limits(memory=64 * MIB, memory_swap=-1), "max"),
        (Limits(memory=64 * MIB, memory_swap=64 * MIB), "0"),
        (Limits(memory=64 * MIB), "64M"),
    ],
)
def test_version_2_counts_swap_alone(limits: Limits, value: str) -> None:
    assert settings(V2, limits)["/cg/minicontainer/c1/memory.swap.max"] == value


def test_version_1_counts_memory_and_swap_together() -> None:
    file = "/cg/memory/minicontainer/c1/memory.memsw.limit_in_bytes"
    assert settings(V1, Limits(memory=64 * MIB))[file] == "128M"
    assert settings(V1, Limits(memory=64 * MIB, memory_swap=-1))[file] == "-1"


@pytest.mark.parametrize("hierarchies", [V1, V2])
def test_swap_is_required_only_where_it_was_asked_for(hierarchies: Hierarchies) -> None:
    def required(limits: Limits) -> list[bool]:
        steps = cgroup_steps(hierarchies, "c1", limits)
        return [s.required for s in steps if isinstance(s, SetLimit) and ("swap" in s.file or "memsw" in s.file)]

    assert required(Limits(memory=64 * MIB)) == [False]
    assert required(Limits(memory=64 * MIB, memory_swap=64 * MIB)) == [True]


def test_a_period_without_a_quota() -> None:
    assert settings(V2, Limits(cpu_period=50_000)) == {"/cg/minicontainer/c1/cpu.max": "max 50000"}
    assert settings(V1, Limits(cpu_period=50_000)) == {
        "/cg/cpu,cpuacct/minicontainer/c1/cpu.cfs_period_us": "50000",
    }


def test_hybrid_puts_each_limit_where_its_controller_lives() -> None:
    limits = Limits(memory=64 * MIB, pids=5, cpu_shares=512, cpuset_cpus="0")
    assert settings(HYBRID, limits) == {
        "/cg/unified/minicontainer/c1/memory.max": "64M",
        "/cg/unified/minicontainer/c1/memory.swap.max": "64M",
        "/cg/unified/minicontainer/c1/pids.max": "5",
        "/cg/cpu/minicontainer/c1/cpu.shares": "512",
        "/cg/cpuset/minicontainer/c1/cpuset.cpus": "0",
    }
    steps = cgroup_steps(HYBRID, "c1", limits)
    assert EnableControllers("/cg/unified", ("memory", "pids")) in steps
    assert steps[-1] == JoinCgroup(
        (
            "/cg/unified/minicontainer/c1/cgroup.procs",
            "/cg/cpu/minicontainer/c1/tasks",
            "/cg/cpuset/minicontainer/c1/tasks",
        )
    )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(memory=64 * MIB), "memory limit capabilities"),
        (Limits(pids=5), "PIDs limit capabilities"),
        (Limits(cpu_quota=50_000), "CPU CFS scheduler"),
        (Limits(cpu_shares=512), "CPU shares"),
        (Limits(cpuset_cpus="0"), "cpuset"),
        (Limits(cpuset_mems="0"), "cpuset"),
    ],
)
@pytest.mark.parametrize("hierarchies", [Hierarchies("none"), Hierarchies("v2", (Hierarchy("/cg", 2, ("io",)),))])
def test_a_limit_without_its_controller_is_an_error(hierarchies: Hierarchies, limits: Limits, words: str) -> None:
    with pytest.raises(HostError) as caught:
        cgroup_steps(hierarchies, "c1", limits)
    assert caught.value.message == f"Your kernel does not support {words} or the cgroup is not mounted"
    assert caught.value.hint


def test_without_control_groups_a_container_without_limits_starts() -> None:
    assert cgroup_steps(Hierarchies("none"), "c1", Limits()) == ()


def test_without_controllers_version_2_still_gives_a_group_to_kill() -> None:
    assert cgroup_steps(Hierarchies("v2", (Hierarchy("/cg", 2),)), "c1", Limits()) == (
        CreateCgroup("/cg/minicontainer/c1"),
        JoinCgroup(("/cg/minicontainer/c1/cgroup.procs",)),
    )


def test_a_user_without_a_delegated_group() -> None:
    hierarchies = Hierarchies("v2", (V2.trees[0].replace(writable=False),))
    assert cgroup_steps(hierarchies, "c1", Limits()) == ()
    with pytest.raises(HostError, match="may not make control groups in /cg") as caught:
        cgroup_steps(hierarchies, "c1", Limits(pids=5))
    assert "systemd-run --user --scope" in caught.value.hint


def test_a_delegated_group_is_vacated_before_it_hands_controllers_down() -> None:
    hierarchies = Hierarchies("v2", (V2.trees[0].replace(base="/run.scope", crowded=True),))
    assert cgroup_steps(hierarchies, "c1", Limits())[:4] == (
        CreateCgroup("/cg/run.scope/minicontainer/c1"),
        VacateCgroup("/cg/run.scope", "/cg/run.scope/minicontainer/supervisor"),
        EnableControllers("/cg/run.scope", ("cpu", "memory", "pids")),
        EnableControllers("/cg/run.scope/minicontainer", ("cpu", "memory", "pids")),
    )


@pytest.mark.parametrize("container_id", ["", ".", "..", "../memory", "a/b", "supervisor"])
def test_names_that_lead_elsewhere_are_refused(container_id: str) -> None:
    with pytest.raises(InvalidArgument):
        cgroup_steps(V2, container_id, Limits())


@pytest.mark.parametrize("hierarchies", [V1, V2, HYBRID])
def test_only_the_join_runs_on_the_side_of_the_container(hierarchies: Hierarchies) -> None:
    steps = cgroup_steps(hierarchies, "c1", ALL)
    assert [step.side == CHILD for step in steps] == [False] * (len(steps) - 1) + [True]
    assert all(step.manual for step in steps)
