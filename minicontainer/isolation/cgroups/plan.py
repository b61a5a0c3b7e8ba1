"""From limits to steps: which groups a container gets, on this machine, and what is written into them.

Layer: isolation (imports errors and step).

    Hierarchies + container ID + Limits ──cgroup_steps──▶ CreateCgroup … EnableControllers … SetLimit … JoinCgroup

Pure: reads nothing, writes nothing. Every container gets groups, also one without limits, in order to count what it
uses, to tell whether memory ran out, and to kill it as a whole. A user who may not make groups gets containers without.
"""

from __future__ import annotations

from ...errors import HostError, InvalidArgument
from ...step import Step
from .hierarchies import SUPERVISOR, Hierarchies, Hierarchy
from .limits import DEFAULT_PERIOD, Limits, bytes_text, weight_of_shares
from .steps import (
    CreateCgroup,
    EnableControllers,
    InheritCpuset,
    JoinCgroup,
    SetLimit,
    VacateCgroup,
    lacking,
)


def cgroup_steps(hierarchies: Hierarchies, container_id: str, limits: Limits) -> tuple[Step, ...]:
    """The steps that make, limit and join the groups of a container, in their order.

    Raises HostError where a limit needs a controller that isn't there, or that this user may not use.
    """
    _check_id(container_id)
    for controller, file in _needs(limits):
        _check_controller(hierarchies.of(controller), file)
    cpuset = bool(limits.cpuset_cpus or limits.cpuset_mems)
    trees = [tree for tree in hierarchies.used(cpuset) if tree.writable]
    if not trees:
        return ()
    steps: list[Step] = []
    for tree in trees:
        steps += _making(tree, container_id, cpuset)
    for tree in trees:
        steps += _limiting(tree, tree.group(container_id), limits)
    files = {1: "tasks", 2: "cgroup.procs"}
    steps.append(JoinCgroup(tuple(f"{tree.group(container_id)}/{files[tree.version]}" for tree in trees)))
    return tuple(steps)


def _check_id(container_id: str) -> None:
    if not container_id or "/" in container_id or container_id in (".", "..", SUPERVISOR):
        raise InvalidArgument(f"{container_id!r} can't be the name of a control group")


def _needs(limits: Limits) -> list[tuple[str, str]]:
    """The controllers that these limits need, each with a file that it would be set through."""
    wishes = (
        (limits.memory is not None, "memory", "memory.max"),
        (limits.pids is not None, "pids", "pids.max"),
        (limits.cpu_quota is not None or limits.cpu_period != DEFAULT_PERIOD, "cpu", "cpu.max"),
        (limits.cpu_shares is not None, "cpu", "cpu.shares"),
        (bool(limits.cpuset_cpus or limits.cpuset_mems), "cpuset", "cpuset.cpus"),
    )
    return [(controller, file) for wanted, controller, file in wishes if wanted]


def _check_controller(tree: Hierarchy | None, file: str) -> None:
    if tree is None:
        raise lacking(file)
    if not tree.writable:
        raise HostError(
            f"this user may not make control groups in {tree.root}, which this limit needs",
            hint="run as root, or in a group of your own: systemd-run --user --scope -p Delegate=yes minicontainer …",
        )


def _making(tree: Hierarchy, container_id: str, cpuset: bool) -> list[Step]:
    """Make the group in one tree, with the controllers that it needs."""
    group = tree.group(container_id)
    steps: list[Step] = [CreateCgroup(group)]
    if tree.version == 2:
        wanted = ("cpu", "memory", "pids") + (("cpuset",) if cpuset else ())
        controllers = tuple(name for name in wanted if name in tree.controllers)
        if tree.crowded:
            steps.append(VacateCgroup(tree.root, f"{tree.parent}/{SUPERVISOR}"))
        if controllers:
            steps += [EnableControllers(directory, controllers) for directory in (tree.root, tree.parent)]
    elif cpuset and "cpuset" in tree.controllers:
        steps += [InheritCpuset(tree.parent), InheritCpuset(group)]
    return steps


def _limiting(tree: Hierarchy, group: str, limits: Limits) -> list[Step]:
    """Set the limits whose controllers live in this tree."""
    steps: list[Step] = []
    if "memory" in tree.controllers:
        steps += _memory(tree.version, group, limits)
    if "cpu" in tree.controllers:
        steps += _cpu(tree.version, group, limits)
    if "cpuset" in tree.controllers:
        wishes = (("cpuset.cpus", limits.cpuset_cpus), ("cpuset.mems", limits.cpuset_mems))
        steps += [SetLimit(f"{group}/{name}", value) for name, value in wishes if value]
    if "pids" in tree.controllers and limits.pids is not None:
        steps.append(SetLimit(f"{group}/pids.max", str(limits.pids)))
    return steps


def _memory(version: int, group: str, limits: Limits) -> list[Step]:
    """Memory, then swap: v1 refuses a sum of both that is smaller than its limit of memory alone.

    Without a wish for swap the container gets as much of it as of memory, which is Docker's default; a kernel that
    doesn't count swap is then no error.
    """
    if limits.memory is None:
        return []
    asked = limits.memory_swap is not None
    total = limits.memory_swap if limits.memory_swap is not None else 2 * limits.memory
    if version == 1:
        names, swap = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), bytes_text(total)
    else:
        names, swap = ("memory.max", "memory.swap.max"), "max" if total == -1 else bytes_text(total - limits.memory)
    return [
        SetLimit(f"{group}/{names[0]}", bytes_text(limits.memory)),
        SetLimit(f"{group}/{names[1]}", swap, required=asked),
    ]


def _cpu(version: int, group: str, limits: Limits) -> list[Step]:
    steps: list[Step] = []
    bounded = limits.cpu_quota is not None or limits.cpu_period != DEFAULT_PERIOD
    if bounded and version == 2:
        quota = "max" if limits.cpu_quota is None else str(limits.cpu_quota)
        steps.append(SetLimit(f"{group}/cpu.max", f"{quota} {limits.cpu_period}"))
    elif bounded:
        steps.append(SetLimit(f"{group}/cpu.cfs_period_us", str(limits.cpu_period)))
        if limits.cpu_quota is not None:
            steps.append(SetLimit(f"{group}/cpu.cfs_quota_us", str(limits.cpu_quota)))
    if limits.cpu_shares is not None and version == 2:
        steps.append(SetLimit(f"{group}/cpu.weight", str(weight_of_shares(limits.cpu_shares))))
    elif limits.cpu_shares is not None:
        steps.append(SetLimit(f"{group}/cpu.shares", str(limits.cpu_shares)))
    return steps
