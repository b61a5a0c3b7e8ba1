"""From an image and the user's options to a specification: the `config.json` of an OCI bundle.

Layer: runtime. Pure: values in, a document out; nothing is read, nothing is written.

    image config + Options ──make_spec──▶ config.json ──plan.py──▶ steps

The defaults are Docker's: which mounts, which capabilities, what of /proc is hidden. Source: config.md and
config-linux.md of the OCI runtime specification, 1.0.
"""

from __future__ import annotations

import os

from ..errors import InvalidArgument
from ..isolation import DEFAULT_CAPABILITIES
from ..isolation.cgroups import check_limits, limits_from_spec
from ..rootfs import Account
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_SAFE = ["nosuid", "noexec", "nodev"]
_MOUNTS = (
    ("/proc", "proc", "proc", _SAFE),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/sys", "sysfs", "sysfs", [*_SAFE, "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", [*_SAFE, "relatime", "ro"]),
    ("/dev/mqueue", "mqueue", "mqueue", _SAFE),
    ("/dev/shm", "tmpfs", "shm", [*_SAFE, "mode=1777", "size=67108864"]),
)

GENERATED_FILES = ("resolv.conf", "hostname", "hosts")
"""Files of the bundle that are mounted into /etc."""


class Options(Value):
    """What a user can ask for, beyond the image. Sizes are bytes; None leaves it to the image or to the kernel."""

    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    hostname: str = ""
    tty: bool = False
    stdin: bool = False
    read_only: bool = False
    network: str = "none"
    no_new_privileges: bool = False
    user_namespace: bool = False
    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    auto_remove: bool = False


def check_options(options: Options) -> None:
    """Refuse what no image could make sense of. Raises InvalidArgument, in Docker's words."""
    if options.network not in ("none", "host"):
        raise InvalidArgument(f"network {options.network} not found", hint="there are two: none and host")
    _check_absolute(options.working_directory)
    check_limits(limits_from_spec(resources_of(options)), host_cpus=os.cpu_count() or 1)


def _check_absolute(path: str) -> None:
    if path and not path.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{path}' is invalid, it needs to be an absolute path", hint="begin it with a slash"
        )


def command_of(image_config: dict[str, Any], options: Options) -> list[str]:
    """The argument vector: the entry point, then the command. A user's entry point drops the image's command."""
    config = image_config.get("config") or {}
    if options.entrypoint is not None:
        arguments = [*options.entrypoint, *options.command]
    else:
        arguments = [*(config.get("Entrypoint") or ()), *(options.command or config.get("Cmd") or ())]
    if not arguments:
        raise InvalidArgument("no command specified", hint="name one after the image: minicontainer run IMAGE COMMAND")
    return arguments


def environment_of(image_config: dict[str, Any], options: Options, hostname: str, home: str) -> list[str]:
    """The environment, later definitions of a name winning: the engine's, the image's, the user's (`NAME` unsets)."""
    config = image_config.get("config") or {}
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}", *(["TERM=xterm"] if options.tty else [])]
    entries = [*base, *(config.get("Env") or ()), *options.environment]
    variables = merged(entries)
    variables.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in variables.items()]


def merged(entries: list[str]) -> dict[str, str]:
    """Entries `NAME=value`, later ones winning, as a dictionary; `NAME` alone takes the name away."""
    variables: dict[str, str] = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not name:
            raise InvalidArgument(f"invalid environment variable: {entry}", hint="it is NAME=value, or NAME alone")
        if separator:
            variables[name] = value
        else:
            variables.pop(name, None)
    return variables


def has_home(image_config: dict[str, Any], options: Options) -> bool:
    """Whether image or user say what HOME is; otherwise it is that of whoever a process runs as."""
    config = image_config.get("config") or {}
    return "HOME" in merged([*(config.get("Env") or ()), *options.environment])


def exec_process(process: dict[str, Any], options: Options, account: Account | None, home: str) -> dict[str, Any]:
    """The `process` of a command executed in a running container: the first one's, changed by the options.

    `home` is the new HOME, "" to leave it.
    """
    if not options.command or not options.command[0]:
        raise InvalidArgument("no command specified", hint="name one: minicontainer exec CONTAINER COMMAND")
    _check_absolute(options.working_directory)
    changed = dict(process, terminal=options.tty, args=list(options.command))
    if account:
        changed["user"] = _user(account)
    changed["cwd"] = options.working_directory or process["cwd"]
    more = [*(["TERM=xterm"] if options.tty else []), *([f"HOME={home}"] if home else [])]
    entries = [*process["env"], *more, *options.environment]
    changed["env"] = [f"{name}={value}" for name, value in merged(entries).items()]
    return changed


def _user(account: Account) -> dict[str, Any]:
    return {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.groups)}


def resources_of(options: Options) -> dict[str, Any]:
    """The limits as `linux.resources` (config-linux.md#control-groups)."""
    resources: dict[str, Any] = {}
    memory: dict[str, int] = {}
    if options.memory is not None:
        memory["limit"] = options.memory
    if options.memory_swap is not None:
        memory["swap"] = options.memory_swap
    cpu: dict[str, Any] = {}
    if options.cpus is not None and not 0 <= options.cpus < 1e6:  # negative, not a number, or endless
        raise InvalidArgument(f"{options.cpus} is no number of CPUs", hint="such as 0.5, or 2; 0 is no limit")
    if options.cpus:
        cpu.update(quota=round(options.cpus * 100_000), period=100_000)
    if options.cpu_shares is not None:
        cpu["shares"] = options.cpu_shares
    if options.cpuset_cpus:
        cpu["cpus"] = options.cpuset_cpus
    if options.cpuset_mems:
        cpu["mems"] = options.cpuset_mems
    for name, value in (("memory", memory), ("cpu", cpu)):
        if value:
            resources[name] = value
    if options.pids_limit is not None:
        resources["pids"] = {"limit": options.pids_limit}
    return resources


def make_spec(
    identifier: str,
    bundle: str,
    image_config: dict[str, Any],
    options: Options,
    account: Account,
    ids: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """The specification of a container: what `config.json` holds. `ids`: who the caller is, for a user namespace."""
    config = image_config.get("config") or {}
    hostname = options.hostname or identifier[:12]
    capabilities = list(DEFAULT_CAPABILITIES)
    namespaces = ["pid", "uts", "ipc", "mount", "cgroup"]
    if options.network == "none":
        namespaces.append("network")
    linux: dict[str, Any] = {
        "cgroupsPath": f"/minicontainer/{identifier}",
        "resources": resources_of(options),
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READ_ONLY_PATHS),
    }
    if options.user_namespace:
        namespaces.insert(0, "user")
        linux["uidMappings"] = [{"containerID": 0, "hostID": ids[0], "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": ids[1], "size": 1}]
    linux["namespaces"] = [{"type": name} for name in namespaces]
    process = {
        "terminal": options.tty,
        "user": _user(account),
        "args": command_of(image_config, options),
        "env": environment_of(image_config, options, hostname, account.home),
        "cwd": options.working_directory or f"/{(config.get('WorkingDir') or '').lstrip('/')}",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": options.no_new_privileges,
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "merged", "readonly": options.read_only},
        "hostname": hostname,
        "mounts": _mounts(bundle, options),
        "linux": linux,
    }


def _mounts(bundle: str, options: Options) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    for target, fstype, source, words in _MOUNTS:
        if options.user_namespace:
            if target == "/sys" and options.network == "host":
                # A fresh sysfs belongs to the network namespace, and the host's isn't this user's.
                fstype, source, words = "none", "/sys", ["rbind", *_SAFE, "ro"]
            words = [word for word in words if word != "gid=5"]  # no such group in a single-user mapping
        mounts.append({"destination": target, "type": fstype, "source": source, "options": list(words)})
    mode = ["ro"] if options.read_only else []
    for name in GENERATED_FILES:
        source = f"{bundle}/{name}"
        mounts.append(
            {"destination": f"/etc/{name}", "type": "bind", "source": source, "options": ["rbind", "rprivate", *mode]}
        )
    return mounts
