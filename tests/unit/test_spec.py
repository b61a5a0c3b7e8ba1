"""From image and options to config.json: valid for everybody's runtime, with Docker's defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from minicontainer.errors import InvalidArgument
from minicontainer.rootfs import Account
from minicontainer.runtime.spec import DEFAULT_PATH, Options, command_of, environment_of, make_spec, resources_of

ID = "0123456789abcdef" * 4
IMAGE = {"config": {"Cmd": ["sh"]}}


def spec_of(options: Options | None = None, image: dict | None = None, account: Account | None = None) -> dict:
    return make_spec(ID, "/bundle", image or IMAGE, options or Options(), account or Account(), ids=(1000, 1001))


# ── the specification's own schema ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def schema(conformance: Path) -> Draft4Validator:
    folder = conformance / "schemas/runtime-spec/schema"
    documents = {path.name: json.loads(path.read_bytes()) for path in folder.glob("*.json")}
    resources = [(name, Resource.from_contents(content, DRAFT4)) for name, content in documents.items()]
    return Draft4Validator(documents["config-schema.json"], registry=Registry().with_resources(resources))


def test_the_schema_tells_good_from_bad(schema: Draft4Validator) -> None:
    spec = spec_of()
    assert not list(schema.iter_errors(spec))
    spec["linux"]["namespaces"].append({"type": "moon"})
    spec["process"]["cwd"] = 5
    assert {error.path[1] for error in schema.iter_errors(spec)} == {"namespaces", "cwd"}


switches = {name: st.booleans() for name in ("tty", "stdin", "read_only", "no_new_privileges", "user_namespace")}
limits = {
    "memory": st.none() | st.integers(6 << 20, 1 << 40),
    "memory_swap": st.none() | st.integers(-1, 1 << 40),
    "cpus": st.none() | st.floats(0.01, 512),
    "cpu_shares": st.none() | st.integers(2, 262144),
    "cpuset_cpus": st.sampled_from(["", "0", "0-2,7"]),
    "cpuset_mems": st.sampled_from(["", "0"]),
    "pids_limit": st.none() | st.integers(1, 1 << 22),
}
texts = {
    "command": st.lists(st.text(min_size=1), max_size=3).map(tuple),
    "entrypoint": st.none() | st.just(("/bin/sh", "-c")),
    "environment": st.lists(st.sampled_from(["A=1", "A", "B=", "PATH=/bin", "X=a=b"])).map(tuple),
    "working_directory": st.sampled_from(["", "/srv"]),
    "hostname": st.sampled_from(["", "web"]),
    "network": st.sampled_from(["none", "host"]),
}
accounts = st.builds(Account, st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2), st.just((5, 6)), st.just("/home"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=st.builds(Options, **switches, **limits, **texts), account=accounts)
def test_every_combination_of_options_makes_a_valid_config(schema, options: Options, account: Account) -> None:
    spec = json.loads(json.dumps(spec_of(options, account=account)))
    assert [error.message for error in schema.iter_errors(spec)] == []
    targets = [mount["destination"] for mount in spec["mounts"]]
    assert len(targets) == len(set(targets))
    assert all(spec["linux"]["resources"].values()), "an empty part says nothing"


# ── Docker's defaults ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_capabilities_are_the_fourteen_of_docker() -> None:
    capabilities = spec_of()["process"]["capabilities"]
    assert {name.removeprefix("CAP_") for name in capabilities["bounding"]} == {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
        *("NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
    assert capabilities["effective"] == capabilities["permitted"] == capabilities["bounding"]
    assert "inheritable" not in capabilities  # CVE-2022-24769
    assert "ambient" not in capabilities


def test_what_of_proc_and_sys_is_hidden_or_read_only() -> None:
    linux = spec_of()["linux"]
    hidden = "acpi asound kcore keys latency_stats sched_debug scsi timer_list timer_stats"
    expected = {f"/proc/{name}" for name in hidden.split()} | {"/sys/firmware", "/sys/devices/virtual/powercap"}
    assert expected <= set(linux["maskedPaths"])
    assert set(linux["readonlyPaths"]) == {f"/proc/{name}" for name in "bus fs irq sys sysrq-trigger".split()}


def test_mounts_are_those_that_docker_makes() -> None:
    mounts = {mount["destination"]: mount for mount in spec_of()["mounts"]}
    assert {target: mount["type"] for target, mount in mounts.items()} == {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/sys": "sysfs",
        "/sys/fs/cgroup": "cgroup",
        "/dev/mqueue": "mqueue",
        "/dev/shm": "tmpfs",
        "/etc/resolv.conf": "bind",
        "/etc/hostname": "bind",
        "/etc/hosts": "bind",
    }
    assert all("ro" in mounts[target]["options"] for target in ("/sys", "/sys/fs/cgroup"))
    assert mounts["/etc/hosts"]["source"] == "/bundle/hosts"
    assert "size=67108864" in mounts["/dev/shm"]["options"]


def test_a_folder_is_mounted_before_what_lies_in_it() -> None:
    targets = [mount["destination"] for mount in spec_of()["mounts"]]
    for index, target in enumerate(targets):
        assert not any(earlier.startswith(f"{target}/") for earlier in targets[:index])


def test_the_defaults_of_the_rest() -> None:
    spec = spec_of()
    assert spec["root"] == {"path": "merged", "readonly": False}
    assert spec["hostname"] == ID[:12]
    assert spec["linux"]["cgroupsPath"] == f"/minicontainer/{ID}"
    assert spec["linux"]["resources"] == {}
    assert spec["process"]["cwd"] == "/"
    assert spec["process"]["user"] == {"uid": 0, "gid": 0, "additionalGids": []}
    assert not spec["process"]["terminal"]
    assert not spec["process"]["noNewPrivileges"]


@pytest.mark.parametrize(
    ("options", "namespaces"),
    [
        (Options(), {"pid", "uts", "ipc", "mount", "cgroup", "network"}),
        (Options(network="host"), {"pid", "uts", "ipc", "mount", "cgroup"}),
        (Options(user_namespace=True), {"user", "pid", "uts", "ipc", "mount", "cgroup", "network"}),
    ],
)
def test_the_walls(options: Options, namespaces: set[str]) -> None:
    assert {entry["type"] for entry in spec_of(options)["linux"]["namespaces"]} == namespaces


def test_a_user_namespace_maps_its_root_to_the_caller() -> None:
    spec = spec_of(Options(user_namespace=True))
    assert spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert spec["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    pts = next(mount for mount in spec["mounts"] if mount["destination"] == "/dev/pts")
    assert "gid=5" not in pts["options"]  # no such group in there
    assert "uidMappings" not in spec_of()["linux"]


def test_a_normal_users_host_network_shows_the_hosts_sys() -> None:
    spec = spec_of(Options(user_namespace=True, network="host"))
    mount = next(mount for mount in spec["mounts"] if mount["destination"] == "/sys")
    assert (mount["source"], "rbind" in mount["options"], "ro" in mount["options"]) == ("/sys", True, True)


def test_read_only_reaches_the_files_in_etc() -> None:
    spec = spec_of(Options(read_only=True))
    assert spec["root"]["readonly"]
    assert all("ro" in mount["options"] for mount in spec["mounts"] if mount["destination"].startswith("/etc/"))


def test_making_a_spec_leaves_the_tables_alone() -> None:
    spec_of(Options(user_namespace=True))["mounts"][0]["options"].append("spoilt")
    spec_of()["process"]["capabilities"]["bounding"].clear()
    assert "spoilt" not in spec_of()["mounts"][0]["options"]
    assert spec_of()["process"]["capabilities"]["bounding"]


# ── the working folder ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_users_working_directory_comes_before_the_images() -> None:
    image = {"config": {"Cmd": ["sh"], "WorkingDir": "/app"}}
    assert spec_of(image=image)["process"]["cwd"] == "/app"
    assert spec_of(Options(working_directory="/tmp"), image)["process"]["cwd"] == "/tmp"


def test_an_images_relative_working_directory_is_below_the_root() -> None:
    assert spec_of(image={"config": {"Cmd": ["sh"], "WorkingDir": "app"}})["process"]["cwd"] == "/app"


# ── command and environment ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("image", "entrypoint", "command", "arguments"),
    [
        ({"Cmd": ["sh"]}, None, (), ["sh"]),
        ({"Cmd": ["sh"]}, None, ("ls", "-l"), ["ls", "-l"]),
        ({"Entrypoint": ["/init"], "Cmd": ["serve"]}, None, (), ["/init", "serve"]),
        ({"Entrypoint": ["/init"], "Cmd": ["serve"]}, None, ("help",), ["/init", "help"]),
        ({"Entrypoint": ["/init"], "Cmd": ["serve"]}, ("sh",), (), ["sh"]),
        ({"Entrypoint": ["/init"], "Cmd": ["serve"]}, ("sh",), ("-c", "x"), ["sh", "-c", "x"]),
        ({"Entrypoint": ["/init"], "Cmd": ["serve"]}, (), ("ls",), ["ls"]),
        ({"Entrypoint": ["/init"]}, None, (), ["/init"]),
        ({"Entrypoint": None, "Cmd": ["sh"]}, None, (), ["sh"]),
    ],
)
def test_entry_point_and_command_as_docker_puts_them_together(image, entrypoint, command, arguments) -> None:
    assert command_of({"config": image}, Options(entrypoint=entrypoint, command=command)) == arguments


@pytest.mark.parametrize(
    ("image", "options"),
    [
        ({"config": {}}, Options()),
        ({"config": None}, Options()),
        ({}, Options()),
        ({"config": {"Cmd": None, "Entrypoint": []}}, Options()),
        ({"config": {"Entrypoint": ["/init"], "Cmd": ["serve"]}}, Options(entrypoint=())),
    ],
)
def test_without_a_command_nothing_starts(image: dict, options: Options) -> None:
    with pytest.raises(InvalidArgument, match="no command specified") as caught:
        command_of(image, options)
    assert "minicontainer run IMAGE COMMAND" in caught.value.hint


def environment(image: list[str] | None, user: tuple[str, ...] = (), tty: bool = False) -> dict[str, str]:
    entries = environment_of({"config": {"Env": image}}, Options(environment=user, tty=tty), "box", "/home/me")
    assert len(entries) == len({entry.partition("=")[0] for entry in entries}), "each name once"
    return dict(entry.partition("=")[::2] for entry in entries)


def test_the_engines_own_variables() -> None:
    assert environment(None) == {"PATH": DEFAULT_PATH, "HOSTNAME": "box", "HOME": "/home/me"}
    assert environment(None, tty=True)["TERM"] == "xterm"


@pytest.mark.parametrize(
    ("image", "user", "expected"),
    [
        (["A=image"], (), "image"),
        (["A=image"], ("A=user",), "user"),
        (["A=image"], ("A=",), ""),
        (["A=image"], ("A",), None),
        ([], ("A",), None),
        (["A=1", "A=2"], (), "2"),
        ([], ("A=1", "A", "A=3"), "3"),
        ([], ("A=b=c",), "b=c"),
    ],
)
def test_the_last_to_define_a_variable_wins(image: list[str], user: tuple[str, ...], expected: str | None) -> None:
    assert environment(image, user).get("A") == expected


@pytest.mark.parametrize("name", ["PATH", "HOSTNAME", "HOME"])
def test_image_and_user_come_before_the_engine(name: str) -> None:
    assert environment([f"{name}=image"])[name] == "image"
    assert environment([f"{name}=image"], (f"{name}=user",))[name] == "user"


@pytest.mark.parametrize("entry", ["", "=", "=value"])
def test_a_variable_needs_a_name(entry: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid environment variable"):
        environment([], (entry,))


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_in_the_words_of_the_specification() -> None:
    options = Options(
        memory=64, memory_swap=-1, cpus=1.5, cpu_shares=512, cpuset_cpus="0-1", cpuset_mems="0", pids_limit=9
    )
    assert resources_of(options) == {
        "memory": {"limit": 64, "swap": -1},
        "cpu": {"quota": 150_000, "period": 100_000, "shares": 512, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 9},
    }


def test_a_hundredth_of_a_cpu_is_a_thousand_microseconds() -> None:
    wrong = {
        n: quota for n in range(1, 801) if (quota := resources_of(Options(cpus=n / 100))["cpu"]["quota"]) != n * 1000
    }
    assert wrong == {}


@pytest.mark.parametrize("cpus", [float("nan"), float("inf"), float("-inf")])
def test_there_is_no_endless_cpu(cpus: float) -> None:
    with pytest.raises(InvalidArgument):
        resources_of(Options(cpus=cpus))
