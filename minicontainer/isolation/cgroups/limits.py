"""What a container may use at most, and what the kernel's files want to hear.

Layer: isolation (imports errors and values).

    OCI config.json, linux.resources ──limits_from_spec──▶ Limits ──▶ cgroup v1 file          cgroup v2 file
      memory.limit      bytes                              memory      memory.limit_in_bytes   memory.max
      memory.swap       bytes of memory and swap together  memory_swap memory.memsw.limit_…    memory.swap.max (alone)
      cpu.quota         µs of CPU time in each period      cpu_quota   cpu.cfs_quota_us        cpu.max "QUOTA PERIOD"
      cpu.period        µs                                 cpu_period  cpu.cfs_period_us
      cpu.shares        2 … 262144                         cpu_shares  cpu.shares              cpu.weight 1 … 10000
      cpu.cpus, .mems   "0-2,7"                            cpuset_…    cpuset.cpus, .mems      cpuset.cpus, .mems
      pids.limit        tasks                              pids        pids.max                pids.max

Source: OCI runtime specification, config-linux.md#control-groups. The words of the errors are Docker's, capital letters
included, so that what a search engine knows about them helps here too.
"""

from __future__ import annotations

from ...errors import InvalidArgument
from ...values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MIB = 1 << 20

MINIMUM_MEMORY = 6 * MIB
"""Bytes below which no container is tried: Docker's, since its runtime's own start needs that much."""

DEFAULT_PERIOD = 100_000
"""µs: the kernel's, and Docker's with --cpus."""

MOST_TASKS = 4_194_304
"""The largest process ID of any Linux (PID_MAX_LIMIT in the kernel's threads.h), and so the largest limit of tasks."""

LEAST_SHARES, MOST_SHARES = 2, 262_144
_SHARE = "1024 is one share: what every container has that was given none"


class Limits(Value):
    """What a container may use at most. None and "" mean: no limit of its own."""

    memory: int | None = None
    """Bytes of memory, the page cache included."""
    memory_swap: int | None = None
    """Bytes of memory and swap together; -1: any amount of swap. None: as much swap as memory, where it's counted."""
    cpu_quota: int | None = None
    """µs of CPU time in each period: half a CPU is 50,000 of 100,000."""
    cpu_period: int = DEFAULT_PERIOD
    """µs."""
    cpu_shares: int | None = None
    """The share of a busy CPU, against the shares of others."""
    cpuset_cpus: str = ""
    """The CPUs to run on, such as "0-2,7"."""
    cpuset_mems: str = ""
    """The NUMA nodes to take memory from."""
    pids: int | None = None
    """How many tasks (processes and threads) there may be at a time."""


def limits_from_spec(resources: dict[str, Any]) -> Limits:
    """The limits in `linux.resources` of an OCI config.json. Raises InvalidArgument where a value has the wrong type.

    Zero and negative numbers mean "no limit" there, except for swap, where -1 is a wish of its own.
    """
    memory, cpu, pids = (_part(resources, name) for name in ("memory", "cpu", "pids"))
    swap = _number(memory, "memory.swap")
    return Limits(
        memory=_positive(memory, "memory.limit"),
        memory_swap=None if not swap else max(swap, -1),
        cpu_quota=_positive(cpu, "cpu.quota"),
        cpu_period=_positive(cpu, "cpu.period") or DEFAULT_PERIOD,
        cpu_shares=_positive(cpu, "cpu.shares"),
        cpuset_cpus=_text(cpu, "cpu.cpus"),
        cpuset_mems=_text(cpu, "cpu.mems"),
        pids=_positive(pids, "pids.limit"),
    )


def _part(resources: dict[str, Any], name: str) -> dict[str, Any]:
    part = resources.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise InvalidArgument(f"linux.resources.{name} is not an object, but {part!r}")
    return part


def _number(part: dict[str, Any], name: str) -> int | None:
    value = part.get(name.split(".")[1])
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise InvalidArgument(f"linux.resources.{name} is not a whole number, but {value!r}")
    return value


def _positive(part: dict[str, Any], name: str) -> int | None:
    value = _number(part, name)
    return value if value and value > 0 else None


def _text(part: dict[str, Any], name: str) -> str:
    value = part.get(name.split(".")[1]) or ""
    if not isinstance(value, str):
        raise InvalidArgument(f"linux.resources.{name} is not a string, but {value!r}")
    return value


def check_limits(limits: Limits, host_cpus: int, host_memory: int = 0) -> None:
    """Refuse what can't work on a host of so many CPUs and bytes. Raises InvalidArgument, in Docker's words."""
    _check_memory(limits, host_memory)
    _check_cpu(limits, host_cpus)
    _check_cpuset(limits, host_cpus)
    if limits.pids is not None and not 1 <= limits.pids <= MOST_TASKS:
        raise InvalidArgument(
            f"Range of PIDs limit is from 1 to {MOST_TASKS}, not {limits.pids}", hint="-1 stands for no limit"
        )


def _check_memory(limits: Limits, host_memory: int) -> None:
    if limits.memory is not None and limits.memory < MINIMUM_MEMORY:
        has = f" (this machine has {host_memory // MIB}m)" if host_memory else ""
        raise InvalidArgument("Minimum memory limit allowed is 6MB", hint=f"give it 6m or more{has}")
    if limits.memory_swap is None or limits.memory_swap == -1:
        return
    if limits.memory is None:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
            hint="add --memory, for example --memory 64m --memory-swap 128m",
        )
    if limits.memory_swap < limits.memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
            hint="--memory-swap counts memory and swap together: the same number as --memory means no swap at all",
        )


def _check_cpu(limits: Limits, host_cpus: int) -> None:
    if not 1_000 <= limits.cpu_period <= 1_000_000:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            hint="100000 is the usual one",
        )
    if limits.cpu_quota is not None and limits.cpu_quota > host_cpus * limits.cpu_period:
        raise InvalidArgument(
            f"Range of CPUs is from 0.01 to {host_cpus}.00, as there are only {host_cpus} CPUs available",
            hint="leave --cpus out to allow all of them",
        )
    if limits.cpu_quota is not None and limits.cpu_quota < 1_000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)", hint="that is --cpus 0.01")
    if limits.cpu_shares is not None and limits.cpu_shares < LEAST_SHARES:
        raise InvalidArgument(f"The minimum allowed cpu-shares is {LEAST_SHARES}", hint=_SHARE)
    if limits.cpu_shares is not None and limits.cpu_shares > MOST_SHARES:
        raise InvalidArgument(f"The maximum allowed cpu-shares is {MOST_SHARES}", hint=_SHARE)


def _check_cpuset(limits: Limits, host_cpus: int) -> None:
    highest = _highest(limits.cpuset_cpus, "cpus")
    if highest >= host_cpus:
        there = "0" if host_cpus == 1 else f"0-{host_cpus - 1}"
        raise InvalidArgument(
            f"Requested CPUs are not available - requested {limits.cpuset_cpus}, available: {there}",
            hint="they are numbered from 0",
        )
    _highest(limits.cpuset_mems, "mems")  # which nodes there are, the kernel knows: it answers when it is told


def _highest(text: str, kind: str) -> int:
    """The highest number in a list such as "0-2,7" (cpuset(7), List format); -1 for an empty one."""
    highest = -1
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        numbers = (first, last) if dash else (first, first)
        if not all(_is_number(number) for number in numbers) or int(first) > int(numbers[1]):
            raise InvalidArgument(
                f"Invalid value {text} for cpuset {kind}", hint="numbers and ranges with commas between them: 0-2,7"
            )
        highest = max(highest, int(numbers[1]))
    return highest


def _is_number(text: str) -> bool:
    # isdecimal alone takes the digits of every script, which the kernel doesn't read
    return text.isascii() and text.isdecimal() and len(text) < 10


def bytes_text(count: int) -> str:
    """A number of bytes as the kernel's files take it and a person reads it: "64M" for 67108864; -1 stays "-1"."""
    for unit, letter in ((1 << 30, "G"), (MIB, "M"), (1 << 10, "K")):
        if count > 0 and count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def weight_of_shares(shares: int) -> int:
    """cgroup v2's cpu.weight for cgroup v1's cpu.shares: 2 becomes 1, 1024 becomes 100, 262144 becomes 10000.

    The curve through these three points is that of runc from 1.3.2 on and of crun from 1.23 on. The straight line that
    they took before made 39 of the usual 1024: less than half of what every other group has.
    """
    if shares <= LEAST_SHARES:
        return 1
    if shares >= MOST_SHARES:
        return 10_000
    from math import ceil, log2  # only here, and only for containers with shares on v2

    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))
