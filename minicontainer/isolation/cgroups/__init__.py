"""Control groups: what a container may use. Memory, swap, CPU time, CPUs, number of processes.

Layer: isolation (siblings: namespaces, privileges).

    hierarchies   detect(paths) -> Hierarchies              v1, v2 or both: where each controller lives
    limits        limits_from_spec(resources) -> Limits     what was asked for; check_limits refuses what can't be meant
    plan          cgroup_steps(…) -> (Step, …)              the two together, as steps
    steps         CreateCgroup, SetLimit, JoinCgroup …      one write to one kernel file each
    group         cgroup_of(…) -> Cgroup                    the running container: usage, OOM kills, kill, remove
    tree          groups as directories: list, kill and remove a whole tree

Rule: only groups below one named `minicontainer` are made, changed or removed. The machine's own are only read, with
two exceptions that the plan shows, both on v2: the root's cgroup.subtree_control gets the controllers that containers
need, and inside a container or a delegated group the processes at its top move down (VacateCgroup).
"""

from __future__ import annotations

from .group import Cgroup, cgroup_of
from .hierarchies import PARENT, Hierarchies, Hierarchy, detect
from .limits import Limits, check_limits, limits_from_spec
from .plan import cgroup_steps
from .steps import CreateCgroup, EnableControllers, InheritCpuset, JoinCgroup, SetLimit, VacateCgroup

__all__ = [
    "PARENT",
    "Cgroup",
    "CreateCgroup",
    "EnableControllers",
    "Hierarchies",
    "Hierarchy",
    "InheritCpuset",
    "JoinCgroup",
    "Limits",
    "SetLimit",
    "VacateCgroup",
    "cgroup_of",
    "cgroup_steps",
    "check_limits",
    "detect",
    "limits_from_spec",
]
