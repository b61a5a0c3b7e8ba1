"""Option words of mounts, and the commands that mounts are described by."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from minicontainer import linux
from minicontainer.rootfs import (
    Account,
    MakeDevices,
    MakeWorkingDirectory,
    MaskPaths,
    Mount,
    MountOverlay,
    ReadOnlyPaths,
)
from minicontainer.rootfs.mounts import parse_options
from minicontainer.runtime.spec import Options, make_spec

SAFE = linux.MS_NOSUID | linux.MS_NOEXEC | linux.MS_NODEV


@pytest.mark.parametrize(
    ("words", "flags", "propagation", "data"),
    [
        ("", 0, 0, ""),
        ("defaults", 0, 0, ""),
        ("ro", linux.MS_RDONLY, 0, ""),
        ("nosuid noexec nodev", SAFE, 0, ""),
        ("bind", linux.MS_BIND, 0, ""),
        ("rbind ro", linux.MS_BIND | linux.MS_REC | linux.MS_RDONLY, 0, ""),
        ("rprivate", 0, linux.MS_PRIVATE | linux.MS_REC, ""),
        ("rbind rslave", linux.MS_BIND | linux.MS_REC, linux.MS_SLAVE | linux.MS_REC, ""),
        ("nosuid mode=755 size=65536k", linux.MS_NOSUID, 0, "mode=755,size=65536k"),
        ("newinstance ptmxmode=0666 nosuid gid=5", linux.MS_NOSUID, 0, "newinstance,ptmxmode=0666,gid=5"),
        ("relatime", linux.MS_RELATIME, 0, ""),
        ("strictatime", linux.MS_STRICTATIME, 0, ""),
    ],
)
def test_words_become_flags_and_the_rest_is_the_file_systems(words, flags, propagation, data) -> None:
    assert parse_options(tuple(words.split())) == (flags, propagation, data)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("ro rw", 0),
        ("rw ro", linux.MS_RDONLY),
        ("nosuid suid", 0),
        ("nodev dev", 0),
        ("exec noexec", linux.MS_NOEXEC),
        ("noexec exec", 0),
        ("noatime atime", 0),
        ("nosuid ro suid", linux.MS_RDONLY),
    ],
)
def test_of_words_that_contradict_each_other_the_last_counts(words: str, flags: int) -> None:
    assert parse_options(tuple(words.split())) == (flags, 0, "")


def test_only_file_systems_of_their_own_get_words_of_their_own() -> None:
    spec = make_spec("c" * 64, "/bundle", {"config": {"Cmd": ["sh"]}}, Options(), Account())
    data = {mount["destination"]: parse_options(tuple(mount["options"]))[2] for mount in spec["mounts"]}
    assert {target: text for target, text in data.items() if text} == {
        "/dev": "mode=755,size=65536k",
        "/dev/pts": "newinstance,ptmxmode=0666,mode=0620,gid=5",
        "/dev/shm": "mode=1777,size=67108864",
    }


@pytest.mark.parametrize(("words", "bind"), [(("bind",), True), (("ro", "rbind"), True), (("ro",), False), ((), False)])
def test_a_bind_mount_is_known_by_its_options(words: tuple[str, ...], bind: bool) -> None:
    assert Mount("/src", "/dst", "none", words, "/root").is_bind is bind


def test_a_file_system_is_described_as_one_types_it() -> None:
    mount = Mount("shm", "/dev/shm", "tmpfs", ("nosuid", "mode=1777"), "/b/merged")
    assert mount.describe() == (
        "mkdir -p /b/merged/dev/shm && mount -t tmpfs -o nosuid,mode=1777 shm /b/merged/dev/shm"
    )
    assert Mount("proc", "/proc", "proc", (), "/m").describe() == "mkdir -p /m/proc && mount -t proc proc /m/proc"


def test_a_bind_mount_gets_its_flags_by_a_second_mount(tmp_path: Path) -> None:
    folder = Mount(str(tmp_path), "/data", "bind", ("rbind", "rprivate", "ro"), "/m").describe()
    assert folder == f"mkdir -p /m/data && mount --rbind {tmp_path} /m/data && mount -o remount,bind,ro /m/data"
    file = Mount(str(tmp_path / "hosts"), "/etc/hosts", "bind", ("bind",), "/m").describe()
    assert file == f"touch /m/etc/hosts && mount --bind {tmp_path}/hosts /m/etc/hosts"


def test_the_overlay_has_its_layers_topmost_first() -> None:
    overlay = MountOverlay(("/l/top", "/l/base"), "/b/upper", "/b/work", "/b/merged")
    assert overlay.options() == "lowerdir=/l/top:/l/base,upperdir=/b/upper,workdir=/b/work"
    assert overlay.describe() == f"mount -t overlay -o {overlay.options()} overlay /b/merged"
    assert overlay.replace(in_user_namespace=True).options().endswith(",userxattr")


# Else a state folder called "a:b" is taken for two layers, and "a,upperdir=b" for an option.
@pytest.mark.parametrize("odd", [":", ",", "\\"])
def test_odd_characters_in_the_state_folder_are_escaped_for_the_overlay(odd: str) -> None:
    path, escaped = f"/a{odd}b", f"/a\\{odd}b"
    options = MountOverlay((f"{path}/1", f"{path}/2"), f"{path}/u", f"{path}/w", f"{path}/m").options()
    assert options == f"lowerdir={escaped}/1:{escaped}/2,upperdir={escaped}/u,workdir={escaped}/w"


ODD = "/it's a $(touch ran) `touch ran`;&\n|"


@pytest.mark.parametrize(
    "step",
    [
        Mount(f"{ODD}/s", f"{ODD}/t", "tmpfs", (f"mode={ODD}",), ODD),
        Mount(f"{ODD}/s", f"{ODD}/t", "none", ("bind", "ro"), ODD),
        MountOverlay((f"{ODD}/l",), f"{ODD}/u", f"{ODD}/w", f"{ODD}/m"),
        MakeDevices(ODD),
        MakeDevices(ODD, in_user_namespace=True),
        MaskPaths((ODD,), ODD),
        ReadOnlyPaths((ODD,), ODD),
        MakeWorkingDirectory(ODD, ODD),
    ],
    ids=lambda step: step.name,
)
def test_no_name_can_add_a_command_to_the_description(tmp_path: Path, step) -> None:
    """Typed into a shell whose every command does nothing, a description does nothing."""
    nothing = "\n".join(f"{name}() {{ :; }}" for name in ("mount", "mkdir", "mknod", "ln"))
    script = f"{nothing}\ntouch() {{ case $1 in ran) echo injected;; esac; }}\n{step.describe()}"
    typed = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (typed.stdout, typed.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []
