"""From a specification to a plan: the list of steps that make a running container of it.

Layer: runtime. Pure: it reads nothing but its arguments, and tests compare its plans as values.

    host's side       a cgroup with its limits
    ════ the wall ════  one clone into new namespaces
    container's side  join the cgroup · mounts · terminal · pivot_root · privileges · exec

`script` prints a plan as shell commands that can be typed into a root bash, in this order, with the same effect.
Where the wall is, the typing goes on in the shell that `unshare` starts. After pivot_root the host's programs are no
longer on the path, but the shell still stands in the old root, which is detached and not yet gone: so each is run
through its own loader by a relative path. That is `$host`; the `cd` into the working directory then lets go of the
host for good.
"""

from __future__ import annotations

from ..errors import InvalidArgument
from ..isolation import (
    BringUpLoopback,
    CloneIntoNamespaces,
    EnterNamespaces,
    EnterPidNamespace,
    LimitCapabilities,
    MapUsers,
    NoNewPrivileges,
    SetHostname,
    SetUser,
    UnshareCgroupNamespace,
)
from ..isolation.cgroups import Hierarchies, cgroup_steps, limits_from_spec
from ..rootfs import (
    MakeDevices,
    MakeMountsPrivate,
    MakeWorkingDirectory,
    MaskPaths,
    Mount,
    MountCgroupsV1,
    MountOverlay,
    PivotRoot,
    ReadOnlyPaths,
    RemountRootReadOnly,
)
from ..step import CHILD, PARENT, Step, quote
from .process import AttachStdio, ChangeDirectory, Exec, OpenTerminal, SetEnvironment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Plan = tuple[Step, ...]

_PREAMBLE = """\
# Type this into a bash of root's, line by line, from top to bottom.
loader=$(cd / && ls lib/*-linux-gnu/ld-linux-*.so.? lib64/ld-linux-*.so.? 2>/dev/null | head -n 1)
export host="/proc/self/cwd/$loader --library-path $(cd / && echo lib/*-linux-gnu | tr ' ' ':'):lib64:lib"
"""


def start_plan(
    spec: dict[str, Any], bundle: str, identifier: str, lowers: tuple[str, ...], hierarchies: Hierarchies
) -> Plan:
    """The plan that starts a container from its bundle: `bundle` is the folder, `lowers` the layers, topmost first."""
    linux = spec["linux"]
    namespaces = tuple(entry["type"] for entry in linux["namespaces"])
    in_user_namespace = "user" in namespaces
    root = f"{bundle}/merged"
    control = cgroup_steps(hierarchies, identifier, limits_from_spec(linux["resources"]))
    overlay = MountOverlay(lowers, f"{bundle}/upper", f"{bundle}/work", root, in_user_namespace)
    return (
        *(step for step in control if step.side == PARENT),
        *_wall(linux, namespaces),
        *(step for step in control if step.side == CHILD),
        UnshareCgroupNamespace(),
        MakeMountsPrivate(),
        overlay,
        *_mounts(spec, root, hierarchies, in_user_namespace),
        MakeWorkingDirectory(spec["process"]["cwd"], root),
        SetHostname(spec["hostname"]),
        *((BringUpLoopback(),) if "network" in namespaces else ()),
        MaskPaths(tuple(linux["maskedPaths"]), root),
        ReadOnlyPaths(tuple(linux["readonlyPaths"]), root),
        *_stdio(spec["process"], make_console=True),
        *((RemountRootReadOnly(root),) if spec["root"]["readonly"] else ()),
        PivotRoot(root),
        *_program(spec["process"], in_user_namespace),
    )


def exec_plan(
    spec: dict[str, Any], process: dict[str, Any], identifier: str, first: tuple[int, int], hierarchies: Hierarchies
) -> Plan:
    """The plan that runs another process in a running container, whose first process has this (pid, birth)."""
    names = [entry["type"] for entry in spec["linux"]["namespaces"] if entry["type"] != "pid"]
    in_user_namespace = "user" in names
    control = cgroup_steps(hierarchies, identifier, limits_from_spec(spec["linux"]["resources"]))
    return (
        EnterPidNamespace(*first, with_user=in_user_namespace),
        CloneIntoNamespaces(()),
        *(step for step in control if step.side == CHILD),
        EnterNamespaces(first[0], tuple(name for name in names if name != "user")),
        *_stdio(process, make_console=False),
        *_program(process, in_user_namespace),
    )


def _wall(linux: dict[str, Any], namespaces: tuple[str, ...]) -> Plan:
    """The clone, and for a user namespace what its users are outside; the cgroup namespace waits for the cgroup."""
    clone = CloneIntoNamespaces(tuple(name for name in namespaces if name != "cgroup"))
    if "user" not in namespaces:
        return (clone,)
    rows = [
        tuple((row["containerID"], row["hostID"], row["size"]) for row in linux[key])
        for key in ("uidMappings", "gidMappings")
    ]
    return (clone, MapUsers(*rows))


def _mounts(spec: dict[str, Any], root: str, hierarchies: Hierarchies, in_user_namespace: bool) -> Plan:
    steps: list[Step] = []
    for entry in spec["mounts"]:
        options = tuple(entry.get("options") or ())
        if entry["type"] == "cgroup":
            if hierarchies.version == "v2":
                steps.append(Mount("cgroup", entry["destination"], "cgroup2", options, root))
            elif in_user_namespace:
                # v1's trees can't be mounted there, and where /sys is the host's own its trees would show through.
                empty = ("nosuid", "noexec", "nodev", "ro", "mode=755")
                steps.append(Mount("tmpfs", entry["destination"], "tmpfs", empty, root))
            else:
                trees = [tree for tree in hierarchies.used() if tree.version == 1]
                steps.append(MountCgroupsV1(tuple(",".join(tree.controllers) for tree in trees), root))
        else:
            steps.append(Mount(entry["source"], entry["destination"], entry["type"], options, root))
        if entry["destination"] == "/dev":
            steps.append(MakeDevices(root, in_user_namespace))
    return tuple(steps)


def _stdio(process: dict[str, Any], make_console: bool) -> Plan:
    terminal = OpenTerminal(process["user"]["uid"], make_console)
    return (*((terminal,) if process["terminal"] else ()), AttachStdio())


def _program(process: dict[str, Any], in_user_namespace: bool) -> Plan:
    user = process["user"]
    if in_user_namespace and (user["uid"], user["gid"]) != (0, 0):
        raise InvalidArgument(
            f"user {user['uid']}:{user['gid']} doesn't exist in a user namespace with a single user",
            hint="leave --user out, or run as root",
        )
    return (
        LimitCapabilities(tuple(process["capabilities"]["bounding"])),
        *((NoNewPrivileges(),) if process["noNewPrivileges"] else ()),
        SetUser(user["uid"], user["gid"], tuple(user["additionalGids"]), may_set_groups=not in_user_namespace),
        SetEnvironment(tuple(process["env"])),
        ChangeDirectory(process["cwd"]),
        Exec(tuple(process["args"])),
    )


def script(bundle: str, files: dict[str, str], plan: Plan, cgroups: tuple[str, ...]) -> str:
    """A plan as the commands that a person would type, each step's below its name and manual page.

    `files` are those that the bundle needs (name → content); `cgroups` the folders that are left over at the end.
    """
    identifier = bundle.rpartition("/")[2]
    lines = ["# The bundle: folders for what the container changes, and files for its /etc"]
    lines.append(f"mkdir -p {quote(bundle)}/upper {quote(bundle)}/work {quote(bundle)}/merged")
    lines += [f"printf %s {quote(content)} > {quote(bundle)}/{name}" for name, content in files.items()]
    for step in plan:
        lines += ["", f"# {step.name}: {step.manual}", step.describe()]
    lines += ["", "# Once that has ended, back in the first shell, what it leaves behind:", f"rm -r {quote(bundle)}"]
    for group in cgroups:
        lines.append(f"rmdir {quote(group)}; rmdir --ignore-fail-on-non-empty {quote(group.rpartition('/')[0])}")
    text = "\n".join(lines) + "\n"
    # For the reader's sake. What is in quotes stays as it is: a shell would not look for variables there.
    if quote(bundle) == bundle:
        text = text.replace(f"{bundle}/merged", "$root").replace(bundle, "$bundle")
    text = text.replace(f"minicontainer/{identifier}", "minicontainer/$id")
    return f"{_PREAMBLE}export id={identifier}\nexport bundle={quote(bundle)} root={quote(bundle)}/merged\n\n{text}"
