"""`lab clean` knows what is ours, on a made-up /proc, /sys/fs/cgroup and state folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from minicontainer.lab import clean
from minicontainer.lab.clean import Host

MONITOR = "mc-monitor"


@pytest.fixture
def host(tmp_path) -> Host:
    for name in ("state", "checkout", "proc/self", "cgroup", "net"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("")
    return Host(
        state=tmp_path / "state",
        checkout=tmp_path / "checkout",
        caches=[tmp_path / "checkout/.cache"],
        proc=tmp_path / "proc",
        cgroup=tmp_path / "cgroup",
        net=tmp_path / "net",
    )


def process(host: Host, number: int = 10, **files: str) -> Path:
    """A process in the made-up /proc; words of `cmdline` and `environ` are given with spaces."""
    folder = host.proc / str(number)
    (folder / "fd").mkdir(parents=True)
    files = {"comm": "sh\n", "stat": f"{number} (x y) S 1 0\n", "mountinfo": "", "cgroup": "0::/\n", **files}
    for name, text in files.items():
        if name in ("cmdline", "environ"):
            text = "".join(f"{word}\0" for word in text.split())
        (folder / name).write_text(text)
    return folder


def seen(host: Host) -> list[int]:
    return [number for number, _ in clean.processes(host)]


def root_of_container(state: object) -> str:
    return f"50 40 0:44 / / rw - overlay overlay rw,lowerdir=/l,upperdir={state}/containers/abc/upper,workdir=/w\n"


def test_a_containers_process_is_known_by_its_group_and_its_root(host):
    process(host, cgroup="4:memory:/minicontainer/abc\n", mountinfo=root_of_container(host.state))
    assert seen(host) == [10]


@pytest.mark.parametrize("cgroup", ["0::/minicontainer/abc\n", "1:pids:/minicontainer\n"])
def test_a_process_in_our_group_that_says_nothing_else_is_the_default_folders(host, cgroup, monkeypatch):
    process(host, cgroup=cgroup)
    assert seen(host) == []
    assert host.others == {clean.DEFAULT_STATE}
    monkeypatch.setattr(clean, "DEFAULT_STATE", str(host.state))
    assert seen(host) == [10]


@pytest.mark.parametrize("cgroup", ["0::/docker/1/minicontainer/abc\n", "0::/minicontainers/abc\n", "0::/\n"])
def test_other_groups_are_not_ours(host, cgroup):
    process(host, cgroup=cgroup, mountinfo=root_of_container(host.state))
    assert seen(host) == []


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/python3 -IS /opt/bin/minicontainer run busybox",
        "python3 -m minicontainer.lab.bench",
        "/x/python3.12 -I -m minicontainer ps",
    ],
)
def test_the_engines_own_processes_are_known_by_their_command(host, command):
    process(host, cmdline=command, environ=f"MINICONTAINER_ROOT={host.state}")
    assert seen(host) == [10]


@pytest.mark.parametrize(
    "command",
    [
        "vim minicontainer",
        "python3 -m pytest minicontainer",
        "python3 tests/run.py minicontainer",
        "python3 -m minicontainers",
        "python3",
        "python3 -m",
        "",
    ],
)
def test_other_commands_are_not_ours(host, command):
    process(host, cmdline=command, environ=f"MINICONTAINER_ROOT={host.state}")
    assert seen(host) == []


def test_a_monitor_is_known_by_its_name_and_the_files_it_holds(host):
    folder = process(host, comm=f"{MONITOR}\n")
    (folder / "fd/5").symlink_to(host.state / "containers/abc/log.jsonl")
    process(host, 11, comm=f"{MONITOR}\n")
    (host.proc / "11/fd/5").symlink_to("/somewhere/else/containers/abc/log.jsonl")
    assert seen(host) == [10]
    assert host.others == {"/somewhere/else"}


def test_a_monitor_without_files_is_its_childs(host):
    folder = process(host, comm=f"{MONITOR}\n")
    (folder / "task/10").mkdir(parents=True)
    (folder / "task/10/children").write_text("11 \n")
    process(host, 11, mountinfo=root_of_container(host.state))
    assert seen(host) == [10]


def test_the_state_folder_can_be_an_option(host):
    process(host, 10, cmdline=f"python3 -IS /bin/minicontainer --root {host.state} ps")
    process(host, 11, cmdline=f"python3 -IS /bin/minicontainer --root={host.state} ps")
    process(host, 12, cmdline=f"python3 -IS /bin/minicontainer --root {host.state}2 ps")
    assert sorted(seen(host)) == [10, 11]


def test_a_virtual_machine_is_known_by_its_files(host):
    process(host, 10, cmdline=f"/usr/bin/qemu-system-x86_64 -drive file={host.state}/lab/disk.img")
    process(host, 11, cmdline="/usr/bin/qemu-system-x86_64 -drive file=/home/me/disk.img")
    assert seen(host) == [10]


def test_jupyterlab_is_known_by_its_settings(host):
    process(
        host, 10, cmdline="python -m jupyterlab", environ=f"JUPYTER_CONFIG_DIR={host.checkout}/.cache/jupyter/config"
    )
    process(host, 11, cmdline="python -m jupyterlab", environ="JUPYTER_CONFIG_DIR=/home/me/.jupyter")
    assert seen(host) == [10]


def test_the_dead_are_not_counted(host):
    process(host, stat="10 (x) Z 1 0\n", cgroup="0::/minicontainer/abc\n", mountinfo=root_of_container(host.state))
    assert seen(host) == []


def test_mounts_below_the_state_folder_last_first(host):
    points = ["/", str(host.state), f"{host.state}/a", f"{host.state}2", f"{host.state}/with\\040space"]
    text = "".join(f"{number} 1 0:1 / {point} rw - tmpfs none rw\n" for number, point in enumerate(points))
    (host.proc / "self/mountinfo").write_text(text)
    assert clean.mounts_below(host) == [f"{host.state}/with space", f"{host.state}/a"]


def group(host: Host, name: str, pids: str = "", age: float = 0) -> None:
    """A made-up cgroup."""
    (host.cgroup / name).mkdir(parents=True, exist_ok=True)
    (host.cgroup / name / "cgroup.procs").write_text(pids)
    born = time.time() - age
    os.utime(host.cgroup / name, (born, born))


def cgroups(host: Host) -> list[str]:
    return [str(path.relative_to(host.cgroup)) for path in clean.cgroups(host)]


def test_cgroups_inner_ones_first_in_every_hierarchy(host):
    host.containers = {"abc", "def"}
    for name in ("memory/minicontainer/abc", "minicontainer/def/inner", "memory/docker/abc"):
        group(host, name)
    assert cgroups(host) == [
        "minicontainer/def/inner",
        "minicontainer/def",
        "minicontainer",
        "memory/minicontainer/abc",
        "memory/minicontainer",
    ]


def test_others_cgroups_stay_and_the_top_with_them(host):
    host.containers = {"abc"}
    group(host, "minicontainer/abc")
    group(host, "minicontainer/populated", pids="10\n", age=1000)
    group(host, "minicontainer/young")
    group(host, "minicontainer/stale", age=1000)
    assert sorted(cgroups(host)) == ["minicontainer/abc", "minicontainer/stale"]


def test_containers_are_known_by_their_folders_and_by_their_processes(host):
    (host.state / "containers/abc").mkdir(parents=True)
    process(host, 10, cgroup="0::/minicontainer/lost\n", mountinfo=root_of_container(host.state))
    process(host, 11, cgroup="0::/minicontainer/theirs\n", mountinfo=root_of_container("/elsewhere"))
    group(host, "memory/minicontainer/lost", pids="10\n")
    group(host, "minicontainer/theirs", pids="11\n")
    assert clean.containers(host) == {"abc", "lost"}


def test_the_state_folder_goes_as_a_whole(host):
    for name in ("images/blobs", "containers/abc", "lab"):
        (host.state / name).mkdir(parents=True)
    (host.state / "images/lock").write_text("")
    clean.remove_files(host)
    assert not host.state.exists()


def test_what_the_engine_did_not_make_stays(host):
    (host.state / "images").mkdir()
    (host.state / "thesis.tex").write_text("years of work")
    clean.remove_files(host)
    assert [path.name for path in host.state.iterdir()] == ["thesis.tex"]
    assert clean.files(host) == []


def test_nothing_is_removed_while_something_is_mounted_below(host):
    (host.state / "images").mkdir()
    (host.proc / "self/mountinfo").write_text(f"1 1 0:1 / {host.state}/a rw - tmpfs none rw\n")
    clean.remove_files(host)
    assert (host.state / "images").exists()


def test_links_are_removed_and_not_followed(host, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    (host.state / "containers").mkdir()
    (host.state / "containers/link").symlink_to(tmp_path / "precious")
    (host.state / "images").symlink_to(tmp_path / "precious")
    clean.remove_files(host)
    assert not host.state.exists()
    assert (tmp_path / "precious/file").exists()


def test_a_folder_made_very_deep_goes_too(host):
    top = os.open(host.state, os.O_RDONLY)
    for name in ["layers", *["x"] * 3000]:
        os.mkdir(name, dir_fd=top)
        inner = os.open(name, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = inner
    os.close(top)
    clean.remove_files(host)
    assert not host.state.exists()


def test_the_report_names_what_is_left(host, capsys, monkeypatch):
    monkeypatch.setattr(clean, "tables", list)
    assert clean.report(Host(host.state / "none", host.checkout, [], host.proc, host.cgroup, host.net))
    assert capsys.readouterr().out.count("none left") == 7
    (host.net / clean.BRIDGE).mkdir()
    (host.cgroup / "minicontainer").mkdir()
    host.caches[0].mkdir()
    process(host, cmdline=f"qemu-system-x86_64 {host.state}/lab/x")
    assert not clean.report(host)
    output = capsys.readouterr().out
    assert "LEFT: 10 (sh qemu-system-x86_64" in output
    assert f"LEFT: {host.cgroup}/minicontainer" in output
    assert f"LEFT: {clean.BRIDGE}" in output
    assert f"LEFT: {host.state}" in output
    assert f"LEFT: {host.caches[0]}" in output
    assert output.count("none left") == 2
