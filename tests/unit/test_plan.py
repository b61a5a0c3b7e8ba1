"""From config.json to steps: plans compared as values, and the orders in them that matter."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from minicontainer.errors import HostError, InvalidArgument
from minicontainer.isolation import (
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
from minicontainer.isolation.cgroups import CreateCgroup, Hierarchies, Hierarchy, JoinCgroup, SetLimit
from minicontainer.rootfs import (
    Account,
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
from minicontainer.runtime.plan import Plan, exec_plan, script, start_plan
from minicontainer.runtime.process import AttachStdio, ChangeDirectory, Exec, OpenTerminal, SetEnvironment
from minicontainer.runtime.spec import Options, make_spec
from minicontainer.step import PARENT, Step

ID = "c" * 64
BUNDLE = f"/state/containers/{ID}"
ROOT = f"{BUNDLE}/merged"
LOWERS = ("/layers/top", "/layers/base")
V1 = Hierarchies("v1", (Hierarchy("/cg/memory", 1, ("memory",)), Hierarchy("/cg/cpu,cpuacct", 1, ("cpu", "cpuacct"))))
V2 = Hierarchies("v2", (Hierarchy("/cg", 2, ("cpu", "memory", "pids")),))
NONE = Hierarchies("none")


def spec_of(options: Options | None = None, account: Account | None = None) -> dict:
    return make_spec(
        ID, "/b", {"config": {"Cmd": ["sh"]}}, options or Options(), account or Account(), ids=(1000, 1000)
    )


def plan_of(options: Options | None = None, account: Account | None = None, hierarchies: Hierarchies = V2) -> Plan:
    return start_plan(spec_of(options, account), BUNDLE, ID, LOWERS, hierarchies)


def exec_plan_of(options: Options | None = None, hierarchies: Hierarchies = V2) -> Plan:
    spec = spec_of(options)
    return exec_plan(spec, dict(spec["process"], args=["ls"]), ID, (4711, 99), hierarchies)


def only(plan: Plan, kind: type[Step]) -> Step:
    (step,) = (step for step in plan if isinstance(step, kind))
    return step


def names(plan: Plan) -> list[str]:
    """The names of the steps, each run of equal ones once."""
    return [name for name, _ in itertools.groupby(step.name for step in plan)]


def combinations() -> list[Options]:
    switches = ("tty", "read_only", "no_new_privileges", "user_namespace")
    return [
        Options(network=network, memory=memory, **dict(zip(switches, values, strict=True)))
        for values in itertools.product((False, True), repeat=len(switches))
        for network in ("none", "host")
        for memory in (None, 64 << 20)
    ]


EVERY_PLAN = [
    plan
    for hierarchies in (V1, V2)
    for options in combinations()
    for plan in (plan_of(options, hierarchies=hierarchies), exec_plan_of(options, hierarchies))
]
EVERY_START = EVERY_PLAN[::2]


def test_the_plan_of_a_container_without_options() -> None:
    assert names(plan_of()) == [
        "CreateCgroup",
        "EnableControllers",
        "CloneIntoNamespaces",
        "JoinCgroup",
        "UnshareCgroupNamespace",
        "MakeMountsPrivate",
        "MountOverlay",
        "Mount",
        "MakeDevices",
        "Mount",
        "MakeWorkingDirectory",
        "SetHostname",
        "BringUpLoopback",
        "MaskPaths",
        "ReadOnlyPaths",
        "AttachStdio",
        "PivotRoot",
        "LimitCapabilities",
        "SetUser",
        "SetEnvironment",
        "ChangeDirectory",
        "Exec",
    ]


def test_the_plan_of_an_exec() -> None:
    spec = spec_of()
    assert exec_plan_of() == (
        EnterPidNamespace(4711, 99),
        CloneIntoNamespaces(()),
        JoinCgroup((f"/cg/minicontainer/{ID}/cgroup.procs",)),
        EnterNamespaces(4711, ("uts", "ipc", "mount", "cgroup", "network")),
        AttachStdio(),
        LimitCapabilities(tuple(spec["process"]["capabilities"]["bounding"])),
        SetUser(0, 0, ()),
        SetEnvironment(tuple(spec["process"]["env"])),
        ChangeDirectory("/"),
        Exec(("ls",)),
    )


def test_equal_specifications_make_equal_plans() -> None:
    assert plan_of() == plan_of()
    assert plan_of() != plan_of(Options(hostname="web"))


# Each row: whatever else a plan holds, these come in this order.
ORDERS = [
    (CreateCgroup, SetLimit, CloneIntoNamespaces),
    (CloneIntoNamespaces, MapUsers, JoinCgroup),
    (JoinCgroup, UnshareCgroupNamespace),
    (UnshareCgroupNamespace, MountCgroupsV1),
    (MakeMountsPrivate, MountOverlay, Mount, MaskPaths, PivotRoot),
    (MountOverlay, MakeDevices, OpenTerminal, PivotRoot),
    (MountOverlay, MakeWorkingDirectory, RemountRootReadOnly),
    (Mount, MaskPaths, ReadOnlyPaths, PivotRoot),
    (OpenTerminal, AttachStdio, PivotRoot),
    (OpenTerminal, RemountRootReadOnly, PivotRoot),
    (SetHostname, LimitCapabilities),
    (BringUpLoopback, LimitCapabilities),
    (PivotRoot, LimitCapabilities, SetUser),
    (NoNewPrivileges, Exec),
    (SetUser, SetEnvironment, ChangeDirectory, Exec),
    (EnterPidNamespace, CloneIntoNamespaces, JoinCgroup, EnterNamespaces),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(kind.__name__ for kind in order))
def test_the_orders_that_matter(order: tuple[type[Step], ...]) -> None:
    seen: set[type[Step]] = set()
    for plan in EVERY_PLAN:
        places = [[i for i, step in enumerate(plan) if isinstance(step, kind)] for kind in order]
        seen |= {kind for kind, found in zip(order, places, strict=True) if found}
        for earlier, later in itertools.pairwise(found for found in places if found):
            assert max(earlier) < min(later), names(plan)
    assert seen == set(order), "a row that no plan can break"


@pytest.mark.parametrize(
    "plan", [pytest.param(plan, id=str(i)) for i, plan in enumerate(EVERY_PLAN[:: len(EVERY_PLAN) // 8])]
)
def test_one_wall_and_one_exec_which_is_the_last(plan: Plan) -> None:
    assert only(plan, CloneIntoNamespaces)
    assert only(plan, Exec) is plan[-1]


def test_beyond_the_wall_the_host_does_nothing_but_map_users() -> None:
    for plan in EVERY_PLAN:
        wall = next(i for i, step in enumerate(plan) if isinstance(step, CloneIntoNamespaces))
        assert {step.side for step in plan[: wall + 1]} == {PARENT}
        assert {type(step) for step in plan[wall + 1 :] if step.side == PARENT} <= {MapUsers}


def test_everything_that_is_acquired_on_the_host_can_be_given_back() -> None:
    assert type(only(plan_of(), CreateCgroup)).undo is not Step.undo
    assert CloneIntoNamespaces.undo is not Step.undo


def test_every_mount_is_made_below_the_containers_root() -> None:
    for plan in EVERY_START:
        for step in plan:
            if "root" in step._fields:
                assert step.root == ROOT, step


def test_the_overlay_has_the_images_layers_and_the_containers_folders() -> None:
    assert only(plan_of(), MountOverlay) == MountOverlay(LOWERS, f"{BUNDLE}/upper", f"{BUNDLE}/work", ROOT, False)


# ── what options change ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "step"),
    [
        (Options(read_only=True), RemountRootReadOnly(ROOT)),
        (Options(tty=True), OpenTerminal(0, make_console=True)),
        (Options(no_new_privileges=True), NoNewPrivileges()),
        (Options(memory=64 << 20), SetLimit(f"/cg/minicontainer/{ID}/memory.max", "64M")),
        (Options(user_namespace=True), MapUsers(((0, 1000, 1),), ((0, 1000, 1),))),
        (Options(hostname="web"), SetHostname("web")),
        (Options(working_directory="/srv"), MakeWorkingDirectory("/srv", ROOT)),
        (Options(working_directory="/srv"), ChangeDirectory("/srv")),
        (Options(command=("ls", "-l")), Exec(("ls", "-l"))),
    ],
)
def test_an_option_adds_its_step(options: Options, step: Step) -> None:
    assert step in plan_of(options)
    assert step not in plan_of()


def test_the_host_network_is_no_wall() -> None:
    shared = plan_of(Options(network="host"))
    assert "network" not in only(shared, CloneIntoNamespaces).namespaces
    assert not any(isinstance(step, BringUpLoopback) for step in shared)
    assert "network" in only(plan_of(), CloneIntoNamespaces).namespaces
    assert "network" not in only(exec_plan_of(Options(network="host")), EnterNamespaces).namespaces


def test_the_cgroup_namespace_is_not_made_by_the_clone() -> None:
    """Its root is the group that the process is in when it is made: so it comes after the join."""
    assert all("cgroup" not in only(plan, CloneIntoNamespaces).namespaces for plan in EVERY_START)


@pytest.mark.parametrize("hierarchies", [NONE, V1, V2], ids=lambda each: each.version)
def test_the_cgroups_that_a_container_sees(hierarchies: Hierarchies) -> None:
    plan = plan_of(hierarchies=hierarchies)
    seen = [step for step in plan if isinstance(step, MountCgroupsV1) or getattr(step, "fstype", "") == "cgroup2"]
    if hierarchies is V2:
        assert [step.target for step in seen] == ["/sys/fs/cgroup"]
    elif hierarchies is V1:
        assert seen == [MountCgroupsV1(("memory", "cpu,cpuacct"), ROOT)]


def test_a_container_without_cgroups_starts_unless_it_has_limits() -> None:
    assert not any(isinstance(step, CreateCgroup | JoinCgroup) for step in plan_of(hierarchies=NONE))
    with pytest.raises(HostError):
        plan_of(Options(memory=64 << 20), hierarchies=NONE)


def test_the_devices_come_right_after_dev() -> None:
    plan = plan_of()
    place = next(i for i, step in enumerate(plan) if isinstance(step, MakeDevices))
    assert (plan[place - 1].target, plan[place + 1].target) == ("/dev", "/dev/pts")


def test_user_group_and_supplementary_groups() -> None:
    account = Account(1000, 1001, (44, 50), "/home")
    assert only(plan_of(account=account), SetUser) == SetUser(1000, 1001, (44, 50), may_set_groups=True)
    assert only(plan_of(Options(tty=True), account), OpenTerminal).uid == 1000


@pytest.mark.parametrize("account", [Account(1000, 0), Account(0, 5)])
def test_a_user_namespace_of_one_has_no_other_users(account: Account) -> None:
    with pytest.raises(InvalidArgument, match=f"user {account.uid}:{account.gid} doesn't exist") as caught:
        plan_of(Options(user_namespace=True), account)
    assert caught.value.hint


def test_in_a_user_namespace_what_it_forbids_is_done_otherwise() -> None:
    plan = plan_of(Options(user_namespace=True))
    assert only(plan, MountOverlay).in_user_namespace
    assert only(plan, MakeDevices).in_user_namespace
    assert not only(plan, SetUser).may_set_groups


# ── the plan as a script ──────────────────────────────────────────────────────────────────────────────────────────────


def typed(plan: Plan, files: dict[str, str] | None = None) -> str:
    return script(BUNDLE, files or {}, plan, (f"/cg/minicontainer/{ID}",))


def test_every_step_is_in_the_script_with_its_manual_page() -> None:
    plan = plan_of(Options(tty=True, read_only=True))
    text = typed(plan).replace("$root", ROOT).replace("$bundle", BUNDLE).replace("$id", ID)
    place = 0
    for step in plan:
        place = text.index(f"\n# {step.name}: {step.manual}\n{step.describe()}\n", place) + 1
    assert f"\nrm -r {BUNDLE}\n" in text[place:]
    assert f"\nrmdir /cg/minicontainer/{ID}" in text[place:]


@pytest.mark.parametrize("options", [Options(), Options(tty=True, read_only=True, user_namespace=True)])
def test_the_script_is_a_shells(options: Options) -> None:
    text = typed(plan_of(options), {"hosts": "it's\n"})
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("folder", ["plain", "it's odd"])
def test_a_typed_script_fills_the_bundle(tmp_path: Path, folder: str) -> None:
    content = f"it's $HOME {tmp_path}\n\\n %s `x`\n"
    bundle = tmp_path / folder / ID
    text = script(str(bundle), {"hosts": content}, (), ()).partition("\n# Once that has ended")[0]
    subprocess.run(["bash", "-c", text], check=True)
    assert (bundle / "hosts").read_text() == content
    assert (bundle / "merged").is_dir()


def in_bash(step: Step, then: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a step, and then a command, into a bash; $host is empty, since the programs are where they always are."""
    for name in ("usr", "bin"):
        (folder / name).symlink_to(f"/{name}")
    return subprocess.run(
        ["/bin/bash", "--norc"],
        input=f"{step.describe()}\n{then}\n",
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "host": ""},
    )


def test_a_typed_environment_is_the_performed_one(tmp_path: Path) -> None:
    variables = {"PATH": "/bin", "EMPTY": "", "ODD": "it's $HOME `x`\n\\", "EQUALS": "a=b"}
    step = SetEnvironment(tuple(f"{name}={value}" for name, value in variables.items()))
    seen = in_bash(step, "/usr/bin/env -0", tmp_path).stdout.rstrip("\0").split("\0")
    assert {
        entry.partition("=")[0]: entry.partition("=")[2] for entry in seen if not entry.startswith("_=")
    } == variables


@pytest.mark.parametrize("name", ["$(>ran)", "x;>ran;y", "a`>ran`", "x >ran #"])
def test_no_name_of_a_variable_runs_when_it_is_typed(tmp_path: Path, name: str) -> None:
    in_bash(SetEnvironment(("PATH=/bin:/usr/bin", f"{name}=1")), "", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "usr"]


def test_a_name_that_is_no_shell_variable_is_handed_on_too(tmp_path: Path) -> None:
    step = SetEnvironment(("PATH=/bin:/usr/bin", "discovery.type=single-node"))
    assert "discovery.type=single-node" in in_bash(step, "/usr/bin/env", tmp_path).stdout.splitlines()


def test_the_script_sets_every_variable_that_it_uses() -> None:
    text = typed(plan_of(Options(user_namespace=True)))
    assert "$CHILD" not in text or "CHILD=" in text
