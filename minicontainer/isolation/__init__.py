"""The walls around a process: what it can see, what it may use, what it may do.

Layer: isolation (siblings: rootfs).

    namespaces   what it can see: its own processes, mounts, host name, network …
    cgroups      what it may use: memory, processor time, processes
    privileges   what it may do: capabilities, user, no_new_privs
"""

from __future__ import annotations

from .namespaces import (
    BringUpLoopback,
    CloneIntoNamespaces,
    EnterNamespaces,
    EnterPidNamespace,
    MapUsers,
    SetHostname,
    UnshareCgroupNamespace,
)
from .privileges import DEFAULT_CAPABILITIES, LimitCapabilities, NoNewPrivileges, SetUser

__all__ = [
    "DEFAULT_CAPABILITIES",
    "BringUpLoopback",
    "CloneIntoNamespaces",
    "EnterNamespaces",
    "EnterPidNamespace",
    "LimitCapabilities",
    "MapUsers",
    "NoNewPrivileges",
    "SetHostname",
    "SetUser",
    "UnshareCgroupNamespace",
]
