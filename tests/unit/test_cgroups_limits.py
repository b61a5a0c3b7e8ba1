"""Limits: from an OCI spec, checked as Docker checks them, converted for cgroup v2."""

from __future__ import annotations

from typing import Any

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.isolation.cgroups import Limits, check_limits, limits_from_spec
from minicontainer.isolation.cgroups.limits import bytes_text, weight_of_shares

MIB = 1 << 20


def test_all_limits_of_a_spec() -> None:
    resources = {
        "memory": {"limit": 64 * MIB, "swap": 128 * MIB},
        "cpu": {"quota": 50_000, "period": 200_000, "shares": 512, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 32},
        "devices": [{"allow": False, "access": "rwm"}],
    }
    assert limits_from_spec(resources) == Limits(
        memory=64 * MIB,
        memory_swap=128 * MIB,
        cpu_quota=50_000,
        cpu_period=200_000,
        cpu_shares=512,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        pids=32,
    )


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"memory": {}, "cpu": None, "pids": {"limit": -1}},
        {"memory": {"limit": 0, "swap": 0}, "cpu": {"quota": 0, "period": 0, "shares": 0, "cpus": ""}},
        {"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": 0}},
    ],
)
def test_zero_and_negative_numbers_are_no_limit(resources: dict[str, Any]) -> None:
    assert limits_from_spec(resources) == Limits()


def test_unlimited_swap_is_kept_apart_from_no_wish() -> None:
    assert limits_from_spec({"memory": {"limit": MIB, "swap": -1}}).memory_swap == -1
    assert limits_from_spec({"memory": {"limit": MIB}}).memory_swap is None


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        ({"memory": {"limit": "64m"}}, "memory.limit"),
        ({"memory": {"limit": True}}, "memory.limit"),
        ({"cpu": {"quota": 0.5}}, "cpu.quota"),
        ({"cpu": {"cpus": 3}}, "cpu.cpus"),
        ({"pids": 5}, "pids"),
    ],
)
def test_wrong_types_are_named(resources: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument, match=f"linux.resources.{named} is not"):
        limits_from_spec(resources)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(memory=6 * MIB - 1), "Minimum memory limit allowed is 6MB"),
        (Limits(memory_swap=64 * MIB), "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (
            Limits(memory=64 * MIB, memory_swap=63 * MIB),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (Limits(cpu_quota=200_001), "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        (
            Limits(cpu_quota=60_000, cpu_period=20_000),
            "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (Limits(cpu_quota=999), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (
            Limits(cpu_period=999),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (Limits(cpu_shares=1), "The minimum allowed cpu-shares is 2"),
        (Limits(cpu_shares=262_145), "The maximum allowed cpu-shares is 262144"),
        (Limits(cpuset_cpus="1-2"), "Requested CPUs are not available - requested 1-2, available: 0-1"),
        (Limits(cpuset_cpus="0,7"), "Requested CPUs are not available - requested 0,7, available: 0-1"),
        (Limits(pids=0), "Range of PIDs limit is from 1 to 4194304, not 0"),
        (Limits(pids=4_194_305), "Range of PIDs limit is from 1 to 4194304, not 4194305"),
    ],
)
def test_what_can_not_work_is_refused_in_the_words_of_docker(limits: Limits, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_limits(limits, host_cpus=2, host_memory=1 << 30)
    assert caught.value.message == message


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1,,2", "2-1", "0 1", "1-2-3", "٣", "0x1", "9" * 5000])
def test_lists_that_the_kernel_would_not_read(text: str) -> None:
    with pytest.raises(InvalidArgument, match="for cpuset cpus"):
        check_limits(Limits(cpuset_cpus=text), host_cpus=64)
    with pytest.raises(InvalidArgument, match="for cpuset mems"):
        check_limits(Limits(cpuset_mems=text), host_cpus=64)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(memory=6 * MIB, memory_swap=6 * MIB),
        Limits(memory=1 << 50, memory_swap=-1),  # more than there is: as with Docker, no error
        Limits(memory_swap=-1),
        Limits(cpu_quota=200_000, cpu_shares=2),
        Limits(cpuset_cpus="0,0-1", cpuset_mems="0", pids=1),
    ],
)
def test_what_can_work_passes(limits: Limits) -> None:
    check_limits(limits, host_cpus=2, host_memory=1 << 30)


def test_the_only_cpu_is_named_alone() -> None:
    with pytest.raises(InvalidArgument, match=r"available: 0$"):
        check_limits(Limits(cpuset_cpus="1"), host_cpus=1)


@pytest.mark.parametrize(
    ("count", "text"),
    [(64 * MIB, "64M"), (3 << 30, "3G"), (10_000 << 10, "10000K"), (6_000_001, "6000001"), (-1, "-1"), (0, "0")],
)
def test_bytes_as_the_kernel_takes_them(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2000, 170), (262_144, 10_000), (1 << 40, 10_000)],
)
def test_shares_become_weights_as_with_runc(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


def test_more_shares_never_weigh_less() -> None:
    weights = [weight_of_shares(shares) for shares in range(2, 262_145, 97)]
    assert weights == sorted(weights)
