"""The scripts that run in the guest: read, and the part that needs no guest run here, by the same busybox."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minicontainer.lab.vm.init import APPLETS, init_script, workload_script
from minicontainer.lab.vm.media import BUSYBOX

INSIDE = "/proc/1/root/bin/busybox"


def process(
    *args: str, cwd: str = "/", env: tuple[str, ...] = ("PATH=/usr/bin:/bin",), uid: int = 0, gid: int = 0
) -> dict[str, Any]:
    return {"args": args, "env": env, "cwd": cwd, "user": {"uid": uid, "gid": gid}}


@pytest.fixture
def run(needs, tmp_path):
    """Run a process by its workload script, on this host."""
    needs("busybox")

    def run(*args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        script = workload_script("tag", process(*args, **more))
        assert INSIDE in script
        (tmp_path / "workload").write_text(script.replace(INSIDE, BUSYBOX))
        return subprocess.run(
            [BUSYBOX, "sh", str(tmp_path / "workload")], capture_output=True, text=True, check=False, cwd="/"
        )

    return run


def program(folder: Path, name: str, text: str = 'printf "%s\\n" "$@"', mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("script", [init_script("t", "ttyS0", "vm", ""), init_script("t", "ttyS0", "vm", "/dev/vda")])
def test_the_init_is_a_shell_script(script, needs):
    needs("busybox")
    assert script.startswith("#!/bin/busybox sh\n")
    subprocess.run([BUSYBOX, "sh", "-n"], input=script, text=True, check=True)


def test_every_program_that_the_init_calls_is_linked_and_an_applet(needs):
    needs("busybox")
    builtin = {
        "read",
        "echo",
        "cd",
        "mark",
        "fail",
        "while",
        "until",
        "PATH=/bin",
        "tries=0",
        "code=$?",
        "#!/bin/busybox",
    }
    called = {line.split()[0] for line in init_script("t", "ttyS0", "vm", "/dev/vda").splitlines()}
    called = {word for word in called if word not in builtin and not word.endswith("()")}
    assert called <= set(APPLETS)
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert set(APPLETS) <= set(applets)


def test_a_disk_is_waited_for_and_mounted():
    assert "mount -t ext4 -o noatime /dev/vda /image" in init_script("t", "ttyS0", "vm", "/dev/vda")
    assert "ext4" not in init_script("t", "ttyS0", "vm", "")


def test_a_strange_host_name_is_one_word():
    assert "hostname 'a b;reboot'" in init_script("t", "ttyS0", "a b;reboot", "")


ODD = ["", "two words", "it's", '"$HOME"', "`id`", "a\nb", "*", "\\n", "ünï", "-n", "--"]


def test_arguments_arrive_as_they_are(run, tmp_path):
    path = program(tmp_path, "show", 'for each; do printf "<%s>" "$each"; done')
    assert run(str(path), *ODD).stdout == "".join(f"<{word}>" for word in ODD)


def test_a_program_may_have_a_strange_name(run, tmp_path):
    (tmp_path / "two words").mkdir()
    path = program(tmp_path / "two words", "it's *", "echo here")
    assert run(str(path)).stdout == "here\n"
    assert run("it's *", env=(f"PATH={tmp_path}/two words",)).stdout == "here\n"


def test_the_environment_is_exactly_the_one_given(run):
    result = run("/usr/bin/env", env=("A=1", "B=two words 'quoted'", "PATH=/bin"))
    assert result.stdout.splitlines() == ["A=1", "B=two words 'quoted'", "PATH=/bin"]


def test_the_programs_own_path_is_searched_in_its_order(run, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        program(tmp_path / name, "mc-test-program", f"echo {name}")
    path = f"PATH=/nonexistent:{tmp_path}/two:{tmp_path}/one"
    assert run("mc-test-program", env=(path,)).stdout == "two\n"


def test_the_images_shell_is_run_and_not_busyboxs(run, tmp_path):
    program(tmp_path, "uname", "echo the image has its own")
    assert run("uname", env=(f"PATH={tmp_path}",)).stdout == "the image has its own\n"


def test_the_working_directory_is_made_and_entered(run, tmp_path):
    assert run("/bin/pwd", cwd=f"{tmp_path}/new/deep one").stdout == f"{tmp_path}/new/deep one\n"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("mc-no-such-program", 127, "executable file not found in $PATH"),
        ("/no/such/program", 127, "no such file or directory"),
        ("/etc", 126, "permission denied"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_a_command_that_cannot_run_is_told_by_a_marker_alone(run, command, code, words):
    result = run(command)
    assert result.returncode == code
    assert result.stdout == f"@minicontainer-tag cannot 0 {command}: {words}\n"


def test_exit_codes_are_the_programs(run, tmp_path):
    assert run(str(program(tmp_path, "seven", "exit 7"))).returncode == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_user_is_the_one_asked_for(run):
    assert run("/usr/bin/id", "-u", uid=1234, gid=5678).stdout == "1234\n"
    assert run("/usr/bin/id", "-G", uid=1234, gid=5678).stdout == "5678\n"
