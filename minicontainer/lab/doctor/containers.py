"""What containers need of the kernel: namespaces, control groups, overlay, user namespaces.

Layer: lab (imports isolation). Each function looks at one thing and gives its row or rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...isolation.cgroups import Hierarchies, Hierarchy, detect
from .findings import Finding
from .host import Host, existing, text

OLDEST = (5, 3)
"""The first kernel with clone3(2) and pidfd_open(2), without which the engine doesn't start a process."""

COMPLETE = (5, 11)
"""The first one that lets users without privilege mount an overlay."""

GIVES = {
    "mnt": "mounts",
    "pid": "process numbers",
    "uts": "host name",
    "ipc": "shared memory and message queues",
    "net": "network interfaces",
    "cgroup": "root of the control groups",
    "user": "users",
    "time": "uptime (containers do without)",
}
"""The namespaces, and what a process in a new one has for itself."""
APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
NO_UPPER = ("overlay", "nfs", "nfs4", "ecryptfs", "fuse", "9p", "vfat")
"""File systems that can't take what a container writes (overlayfs in the kernel's documentation, "Upper and Lower")."""
PRIVILEGED = "docker run --privileged --cgroupns=private …   # if this is a container: give it these rights"
DELEGATED = "systemd-run --user --scope -p Delegate=yes $SHELL"


def kernel(host: Host) -> Finding:
    """Its release, against the oldest that will do."""
    release = host.fact("sys/kernel/osrelease").strip()
    numbers = release.split("-")[0].split(".")[:2]
    found = f"Linux {release or 'of unknown release'}, {host.machine}"
    if len(numbers) < 2 or not all(number.isdecimal() for number in numbers):
        return Finding("kernel", "limited", f"{found}: can't tell how old it is", "uname -a")
    version = (int(numbers[0]), int(numbers[1]))
    if version < OLDEST:
        return Finding("kernel", "missing", f"{found}: containers here need 5.3 or newer", host.new_kernel)
    if version < COMPLETE:
        return Finding("kernel", "limited", f"{found}: without root, overlay needs 5.11 or newer", host.new_kernel)
    return Finding("kernel", "ok", found)


def namespaces(host: Host) -> Iterator[Finding]:
    """Each namespace: is it in the kernel, and may this user have one?"""
    for name, gives in GIVES.items():
        topic = f"namespace {name}"
        said = host.tried.get(name)
        if not Path(host.paths.proc, "self/ns", name).exists():
            yield Finding(topic, "missing", f"not in this kernel: no own {gives}", host.new_kernel)
        elif said == "":
            yield Finding(topic, "ok", f"its own {gives}")
        elif said is None:
            yield Finding(topic, "limited", f"its own {gives}: could not be tried", f"unshare {_option(name)} true")
        elif host.uid != 0 and host.tried.get("unprivileged") != "":
            yield Finding(topic, "missing", f"{said} without root: no own {gives}", _lift(host) or "sudo -i")
        else:
            yield Finding(topic, "missing", f"{said}: no own {gives}", _lift_count(host, name) or PRIVILEGED)


def _option(name: str) -> str:
    return "--" + {"mnt": "mount"}.get(name, name)


def _lift_count(host: Host, name: str) -> str:
    setting = f"user/max_{name}_namespaces"
    return f"{host.sudo}sysctl -w {setting.replace('/', '.')}=10000" if host.number(f"sys/{setting}") == 0 else ""


def user_namespaces(host: Host) -> Finding:
    """Containers without root: AppArmor, two sysctl settings, and the trial that decides."""
    topic, said = "user namespaces", host.tried.get("unprivileged")
    bar = _lift(host)
    if said == "" and not bar:
        return Finding(topic, "ok", "open to users without root")
    if said == "":
        return Finding(topic, "limited", "open to this program, though a setting bars others", bar)
    reason = f"barred to users without root ({_bar(host) or said or 'could not be tried'})"
    if host.uid == 0:
        return Finding(topic, "limited", f"{reason}; root's containers work all the same", bar or PRIVILEGED)
    return Finding(topic, "missing", f"{reason}; root may have them", bar or "sudo -i")


def _bar(host: Host) -> str:
    """The setting that closes user namespaces to users without privilege, and its value; "" if none does."""
    for name, closed in (("user/max_user_namespaces", 0), ("kernel/unprivileged_userns_clone", 0), (APPARMOR, 1)):
        if host.number(f"sys/{name}") == closed:
            by = "AppArmor's setting" if name == APPARMOR else "the setting"
            return f"{by} {name.replace('/', '.')} is {closed}"
    return ""


def _lift(host: Host) -> str:
    """The commands that open user namespaces until the next boot; "" where no setting closes them."""
    open_values = (("user/max_user_namespaces", 0, 10000), ("kernel/unprivileged_userns_clone", 0, 1), (APPARMOR, 1, 0))
    closed = [(name, value) for name, bad, value in open_values if host.number(f"sys/{name}") == bad]
    return "\n".join(f"{host.sudo}sysctl -w {name.replace('/', '.')}={value}" for name, value in closed)


def user_ranges(host: Host) -> Finding:
    """The users of the host that this one may lend to containers and image builds: subuid(5)."""
    topic = "subuid ranges"
    if host.uid == 0:
        return Finding(topic, "ok", "not needed by root, who may use all user IDs")
    for name in ("subuid", "subgid"):
        owners = {line.split(":")[0] for line in text(host.etc / name).splitlines() if line.count(":") == 2}
        if not owners & {host.user, str(host.uid)}:
            ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
            found = f"none in /etc/{name}: without root, a container has one user only"
            return Finding(topic, "limited", found, f"sudo usermod {ranges} {host.user}")
    if host.find("newuidmap") is None:
        return Finding(topic, "limited", "granted, but newuidmap isn't installed", host.install("uidmap"))
    return Finding(topic, "ok", f"granted to {host.user}")


def overlay(host: Host) -> Finding:
    """The file system of images: tried where the containers will be."""
    folder = existing(host.paths.state)
    kind = host.file_system(folder)
    place = f"on {folder}" + (f" ({kind})" if kind else "")
    said = host.tried.get("overlay")
    if said == "":
        return Finding("overlay", "ok", f"layers can be stacked {place}")
    if said is None:
        return Finding("overlay", "limited", f"could not be tried {place}", f"ls -ld {folder}")
    if "\toverlay\n" not in host.fact("filesystems"):
        return Finding("overlay", "missing", f"this kernel hasn't loaded it: {said}", f"{host.sudo}modprobe overlay")
    if kind in NO_UPPER:
        root = f"mkdir -p {host.paths.state} && mount -t tmpfs tmpfs {host.paths.state}"
        remedy = root if host.uid == 0 else "export MINICONTAINER_ROOT=/dev/shm/minicontainer"
        return Finding("overlay", "missing", f"doesn't work {place}: {said}", remedy)
    if host.uid != 0 and host.tried.get("unprivileged") != "":
        return Finding("overlay", "missing", f"not without root here: {said}", _lift(host) or "sudo -i")
    return Finding("overlay", "missing", f"doesn't work {place}: {said}", PRIVILEGED)


def control_groups(host: Host) -> Iterator[Finding]:
    """The version, then a row for each controller that a limit needs."""
    found = detect(host.paths)
    unified = next((tree for tree in found.trees if tree.version == 2), None)
    where = {
        "v1": f"v1: a tree for each controller in {host.paths.cgroup}",
        "v2": f"v2: one tree, in {unified.mount if unified else ''}",
        "hybrid": f"hybrid: v1 in {host.paths.cgroup}, v2 in {unified.mount if unified else ''}",
    }
    if found.version == "none":
        command = f"{host.sudo}mount -t cgroup2 none {host.paths.cgroup}"
        yield Finding("cgroup version", "missing", "no control groups: containers start without limits", command)
    else:
        yield Finding("cgroup version", "ok", where[found.version])
    yield _controller(host, found, "memory", "--memory", host.boot_with("cgroup_enable=memory"))
    yield _swap(host, found)
    for name, option in (("cpu", "--cpus"), ("cpuset", "--cpuset-cpus"), ("pids", "--pids-limit")):
        yield _controller(host, found, name, option, host.new_kernel)


def _controller(host: Host, found: Hierarchies, name: str, option: str, remedy: str) -> Finding:
    topic, tree = f"cgroup {name}", found.of(name)
    if tree is None and found.version == "none":
        return Finding(
            topic, "missing", f"no control groups: no {option}", f"{host.sudo}mount -t cgroup2 none {host.paths.cgroup}"
        )
    if tree is None and host.uid != 0 and found.unified is not None and found.unified.base:
        return Finding(topic, "missing", f"not delegated to this user: no {option}", "sudo -i")
    if tree is None:
        return Finding(topic, "missing", f"not in this kernel, or not mounted: no {option}", remedy)
    place = f"v{tree.version}, in {tree.root}"
    if not tree.writable:
        remedy = PRIVILEGED if host.uid == 0 else DELEGATED if tree.version == 2 else "sudo -i"
        why = f"{'read-only here' if host.uid == 0 else 'root alone may limit it'}: no {option} ({place})"
        return Finding(topic, "limited", why, remedy)
    return Finding(topic, "ok", place)


def _swap(host: Host, found: Hierarchies) -> Finding:
    """Swap is counted by the memory controller, but not on every kernel."""
    topic, tree = "cgroup swap", found.of("memory")
    if tree is None:
        remedy = _controller(host, found, "memory", "--memory", host.boot_with("cgroup_enable=memory")).remedy
        return Finding(topic, "missing", "needs the memory controller", remedy)
    if not _counts_swap(tree, host.fact("cmdline")):
        limited = "not counted: --memory limits memory alone, --memory-swap can't be used"
        return Finding(topic, "limited", limited, host.boot_with("swapaccount=1"))
    total = host.memory("SwapTotal")
    has = f"{gibibytes(total)} of it" if total else "no swap"
    return Finding(topic, "ok", f"counted; this machine has {has}")


def _counts_swap(tree: Hierarchy, parameters: str) -> bool:
    if tree.version == 1:
        return os.path.exists(f"{tree.mount}/memory.memsw.limit_in_bytes")
    # The real root of v2 has no limits, so a group that the system has made has to answer.
    group = next(Path(tree.root).glob("*/memory.current"), Path(tree.root, "memory.current"))
    if group.exists():
        return group.with_name("memory.swap.max").exists()
    return "swapaccount=0" not in parameters


def gibibytes(count: int) -> str:
    """A number of bytes for people: "23.5 GiB", "3 GiB", "512 MiB"."""
    return f"{count / (1 << 30):.1f}".removesuffix(".0") + " GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
