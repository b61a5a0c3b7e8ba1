"""The machine that the numbers are of.

Layer: lab.bench (imports paths, isolation).
"""

from __future__ import annotations

import os
import platform
import sys

from ...isolation.cgroups import detect
from ...paths import Paths

_GIB = 1 << 30


def describe(paths: Paths) -> dict[str, str]:
    """Processor, cores, memory, kernel, control groups, Python and so on, in words. `paths`: where the state is."""
    release = platform.freedesktop_os_release() if os.path.exists("/etc/os-release") else {}
    return {
        "processor": processor(f"{paths.proc}/cpuinfo"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.1f} GiB",
        "system": release.get("PRETTY_NAME", "unknown"),
        "kernel": f"{os.uname().release} {os.uname().machine}",
        "cgroup": detect(paths).version,
        "Python": f"{platform.python_version()} ({os.path.realpath(sys.executable)})",
        "state on": file_system(paths.state, f"{paths.proc}/self/mountinfo"),
        "load": load(),
    }


def load() -> str:
    """How many processes wanted a core during the last minute, on average: above the cores' number, they waited."""
    return f"{os.getloadavg()[0]:.1f}"


def processor(cpuinfo: str) -> str:
    """The model's name, or what /proc/cpuinfo has in its place (proc_cpuinfo(5); Arm's kernels name no model)."""
    fields: dict[str, str] = {}
    with open(cpuinfo, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), " ".join(value.split()))
    if fields.get("model name"):
        return fields["model name"]
    codes = (fields.get(name) for name in ("CPU implementer", "CPU part"))
    return fields.get("Hardware") or " ".join(code for code in codes if code) or "unknown"


def file_system(folder: str, mountinfo: str) -> str:
    """The kind of file system that a folder is on, such as "ext4" (proc_pid_mountinfo(5))."""
    best, kind = "", "unknown"
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            point = left.split(" ")[4]
            if len(point) >= len(best) and f"{folder}/".startswith(f"{point.rstrip('/')}/"):
                best, kind = point, right.split(" ")[0]
    return kind
