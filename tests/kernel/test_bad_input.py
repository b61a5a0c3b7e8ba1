"""What a user, a disk or a machine can do wrong: Docker's exit code, one clear sentence, a hint, nothing half-made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from real_engine import CHECKOUT, SECONDS, CommandLine, eventually, groups, is_alive, refusal

from minicontainer import cli as command_line

# ── what is written on the command line ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("nosuch", "true"), 125, "Unable to find image 'nosuch:latest' locally"),
        (("busybox:nosuch", "true"), 125, "Unable to find image 'busybox:nosuch' locally"),
        (("UPPER", "true"), 125, "invalid reference format"),
        (("", "true"), 125, "invalid reference format"),
        (("busybox", "nosuch"), 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("busybox", "/nosuch"), 127, 'exec: "/nosuch": '),
        (("busybox", "/etc/passwd/x"), 127, 'exec: "/etc/passwd/x": '),
        (("busybox", "/etc/passwd"), 126, 'exec: "/etc/passwd": Permission denied'),
        (("busybox", "/etc"), 126, 'exec: "/etc": Permission denied'),
        (("busybox", "./etc/passwd"), 126, 'exec: "./etc/passwd": Permission denied'),
        (("busybox", ""), 127, ""),
    ],
)
def test_images_and_commands(cli, words, code, part):
    assert part in cli.fails("run", "--rm", *words, code=code)
    eventually(lambda: not cli.folders(), "nothing stays")


def test_programs_that_are_none(own_cli):
    cli = own_cli

    def fill(tree: Path) -> None:
        for name, content in {
            "script": b"echo hi\n",
            "empty": b"",
            "junk": b"\x7fELF junk",
            "lost": b"#!/nosuch\n",
        }.items():
            (tree / name).write_bytes(content)
            (tree / name).chmod(0o755)
        (tree / "good").write_bytes(b"#!/bin/sh\necho $0 $1\n")
        (tree / "good").chmod(0o755)
        (tree / "loop").symlink_to("loop")
        (tree / "folder").mkdir()
        (tree / "folder" / "tool").mkdir()

    cli.derive("odd:latest", fill)
    for name in ("script", "empty", "junk"):
        assert cli.fails("run", "--rm", "odd", f"/{name}", code=126) == f'exec: "/{name}": Exec format error'
    assert cli.fails("run", "--rm", "odd", "/lost", code=127).startswith('exec: "/lost": ')
    assert cli.fails("run", "--rm", "odd", "/loop", code=126).startswith('exec: "/loop": ')
    assert cli.ok("run", "--rm", "odd", "/good", "x") == "/good x\n"
    # as a shell does: what can't be executed is no reason to stop looking, but remembered
    assert "Permission denied" in cli.fails("run", "--rm", "-e", "PATH=/folder", "odd", "tool", code=126)


PROGRESS = "making a root file system of /bin/busybox\n"
BAD_VALUES = [
    *[("--memory", value) for value in ("abc", "", "-5", "5m", "1", "12x", "1..5m", "9" * 30 + "g")],
    *[("--memory-swap", value) for value in ("64m", "abc")],
    *[("--cpus", value) for value in ("abc", "-1", "0.001", "100000", "nan", "inf", "1e400")],
    *[("--cpu-shares", value) for value in ("abc", "1", "999999999", "1.5")],
    *[("--cpuset-cpus", value) for value in ("99999", "abc", "1-0", "-1", "0;1")],
    *[("--cpuset-mems", value) for value in ("abc", "99999")],
    *[("--pids-limit", value) for value in ("abc", "1.5", "99999999999")],
    *[("--network", value) for value in ("nosuch", "")],
    *[("--userns", value) for value in ("nosuch",)],
    *[("--security-opt", value) for value in ("nosuch", "no-new-privileges:false", "")],
    *[("--workdir", value) for value in ("relative", "./x", "/etc/passwd", "/etc/passwd/x")],
    *[("--user", value) for value in ("nosuch", "0:nosuch", "99999999999", "-1", "0:99999999999", "::")],
    *[("--hostname", value) for value in ("x" * 65, "x" * 5000)],
    *[("--env", value) for value in ("=value",)],
    *[("--name", value) for value in ("a", "-x", "a b", "ä", "../x", "x/y", ".", "..", "a\tb", "a:b", "a" * 300)],
    *[("--entrypoint", value) for value in ("/nosuch",)],
    *[("--read-only=maybe", ""), ("--rm=2", "")],
]


@pytest.mark.parametrize(("flag", "value"), BAD_VALUES)
def test_values_that_can_not_be_meant(cli, flag, value):
    words = (flag,) if "=" in flag else (flag, value)
    cli.fails("run", "--rm", *words, "busybox", "true", code=127 if flag == "--entrypoint" else 125)
    eventually(lambda: not cli.folders(), "nothing stays")
    assert not (cli.state / "names").exists() or os.listdir(cli.state / "names") == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "--nosuch", "busybox"), 125),
        (("run", "-Z", "busybox"), 125),
        (("run", "-itZ", "busybox"), 125),
        (("run", "--name"), 125),
        (("run",), 1),
        (("run", "--rm"), 1),
        (("exec",), 1),
        (("exec", "box"), 1),
        (("exec", "--nosuch", "box", "true"), 125),
        (("exec", "-w", "/nosuch", "box", "true"), 126),
        (("exec", "-w", "relative", "box", "true"), 126),
        (("exec", "-u", "nosuch", "box", "true"), 126),
        (("exec", "box", "nosuch"), 127),
        (("exec", "box", "/etc"), 126),
        (("exec", "nosuch", "true"), 1),
        (("ps", "extra"), 1),
        (("ps", "--nosuch"), 125),
        (("logs",), 1),
        (("logs", "one", "two"), 1),
        (("logs", "--tail", "x", "box"), 1),
        (("stop",), 1),
        (("stop", "-t", "abc", "box"), 125),
        (("stop", "nosuch"), 1),
        (("kill",), 1),
        (("kill", "-s", "NOSUCH", "box"), 1),
        (("kill", "-s", "0", "box"), 1),
        (("kill", "-s", "65", "box"), 1),
        (("kill", "nosuch"), 1),
        (("rm",), 1),
        (("rm", "nosuch"), 1),
        (("rm", "-f", "nosuch"), 1),
        (("inspect",), 1),
        (("rmi",), 1),
        (("rmi", "nosuch"), 1),
        (("image",), 1),
        (("image", "bootstrap"), 1),
        (("image", "bootstrap", "nosuch"), 1),
        (("image", "nosuch"), 1),
        (("nosuch",), 1),
        (("rnu", "busybox"), 1),
    ],
)
def test_usage(cli, words, code):
    if "box" in words:
        cli.container(options=("--name", "box"))
    cli.fails(*words, code=code)


def test_an_image_in_use_is_not_removed(own_cli):
    own_cli.container(options=("--name", "box"))
    assert "is using its referenced image" in own_cli.fails("rmi", "busybox", code=1)
    assert own_cli.ok("exec", "box", "echo", "alive") == "alive\n"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_standard_stream_that_is_closed(cli, number):
    close = ("bash", "-c", f'exec "$@" {number}{"<" if number == 0 else ">"}&-', "bash")
    for words in (("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"), ("ps", "-a"), ("nosuch",)):
        done = cli(*words, before=close)
        assert "Traceback" not in done.stderr + done.stdout
        assert done.returncode == (1 if words == ("nosuch",) else done.returncode and number)


def test_an_output_that_takes_nothing(cli):
    with open("/dev/full", "wb") as full:
        for words in (("ps", "-a"), ("images",), ("run", "--rm", "busybox", "echo", "hi")):
            process = cli.start(*words, stdout=full)
            _, errors = process.communicate(timeout=SECONDS)
            assert b"Traceback" not in errors
            assert re.fullmatch(rb"minicontainer: [^\n]+\n(  hint: [^\n]+\n)?", errors)
            assert process.returncode != 0


# ── what is damaged ──────────────────────────────────────────────────────────────────────────────────────────────────


def blobs(cli) -> dict[str, Path]:
    """The three blobs of busybox: its manifest, its config, its layer."""
    folder = cli.state / "images" / "blobs" / "sha256"
    index = json.loads((cli.state / "images" / "index.json").read_bytes())
    manifest = folder / index["manifests"][0]["digest"].removeprefix("sha256:")
    document = json.loads(manifest.read_bytes())
    config, layer = (
        folder / each["digest"].removeprefix("sha256:") for each in (document["config"], document["layers"][0])
    )
    return {"manifest": manifest, "config": config, "layer": layer}


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_damaged_image(own_cli, kind, damage):
    cli = own_cli
    shutil.rmtree(cli.state / "layers")  # as on the first run after a pull
    path = blobs(cli)[kind]
    damage(path)
    sentence = cli.fails("run", "--rm", "busybox", "true", code=125)
    assert sentence.startswith("image busybox:latest is damaged: ")
    assert path.name in sentence or kind == "layer"
    assert cli.folders() == []
    assert not (cli.state / "layers").exists() or os.listdir(cli.state / "layers") == []
    assert "Traceback" not in cli("images").stderr
    assert cli("rmi", "busybox").returncode == 0
    if damage is flip:
        cli("image", "bootstrap", "busybox", timeout=60)
        assert cli.ok("run", "--rm", "busybox", "echo", "healed") == "healed\n"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"manifests": 5}', '{"manifests": [{}]}', "\xff"])
def test_a_damaged_index(own_cli, content):
    cli = own_cli
    (cli.state / "images" / "index.json").write_text(content, encoding="latin-1")
    cli.fails("run", "--rm", "busybox", "true", code=125)
    cli.fails("images", code=1)
    assert cli.ok("ps", "-a").count("\n") == 1


GARBAGE = ["", "{", "[]", "\xff\xfe", '{"id": 5}']


@pytest.mark.parametrize("content", [*GARBAGE, None])
@pytest.mark.parametrize("file", ["state.json", "config.json"])
def test_a_damaged_container(cli, file, content):
    identifier = cli.container(options=("--name", "box"))
    other = cli.container(options=("--name", "other"))
    pid = cli.state_of(identifier)["first"][0]
    path = cli.folder(identifier) / file
    path.unlink() if content is None else path.write_text(content, encoding="latin-1")
    for words in (
        ("inspect", "box"),
        ("exec", "box", "true"),
        ("logs", "box"),
        ("kill", "-s", "CONT", "box"),
        ("ps", "-a"),
    ):
        done = cli(*words)
        assert "Traceback" not in done.stderr, words
        assert done.returncode in (0, 1), words
        if done.returncode:
            assert re.fullmatch(r"minicontainer: [^\n]+\n(  hint: [^\n]+\n)?", done.stderr), words
    assert cli.ok("exec", "other", "echo", "alive") == "alive\n"
    assert other[:12] in cli.ok("ps")
    assert cli.ok("rm", "-f", "box") == "box\n"
    eventually(lambda: not is_alive(pid), "its process is gone")
    assert groups(identifier) == []
    assert cli.folders() == [other]
    assert cli.ok("run", "--rm", "--name", "box", "busybox", "echo", "free again") == "free again\n"


def test_a_container_whose_folder_goes_while_it_runs(own_cli):
    cli = own_cli
    attached = cli.start("run", "-i", "--name", "box", "busybox", "cat", stdin=subprocess.PIPE)
    attached.stdin.write(b"hello\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == b"hello\n"
    (identifier,) = cli.folders()
    shutil.rmtree(cli.folder(identifier))
    _, errors = attached.communicate(timeout=SECONDS)
    assert re.fullmatch(rb"(minicontainer: [^\n]+\n  hint: [^\n]+\n)?", errors)
    eventually(lambda: not groups(identifier), "the groups go all the same")
    cli.fails("logs", "box", code=1)
    assert cli.ok("run", "--rm", "--name", "box", "busybox", "echo", "free again") == "free again\n"


def test_a_damaged_log(cli):
    identifier = cli.container("sh", "-c", "echo one; echo two")
    eventually(lambda: not cli.ok("ps", "-q"), "it ends")
    log = cli.folder(identifier) / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-10])  # as after a power cut
    assert cli.ok("logs", identifier) == "one\n"
    log.write_bytes(b"garbage\n" + whole)
    done = cli("logs", identifier)
    assert "Traceback" not in done.stderr
    assert cli.ok("rm", identifier) == f"{identifier}\n"


# ── what the machine lacks ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(busybox):
    """The command on a state folder with busybox, on a disk of 16 MiB of its own."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", folder], check=True, timeout=SECONDS)
    command = CommandLine(folder)
    try:
        for name in ("images", "layers"):
            shutil.copytree(busybox / name, folder / name, symlinks=True)
        yield command
        (folder / "ballast").unlink(missing_ok=True)
        command.clean()
    finally:
        subprocess.run(["umount", folder], check=True, timeout=SECONDS)
        folder.rmdir()


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with open(disk / "ballast", "ab", buffering=0) as file:
        for piece in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(piece)):
                    pass
            except OSError:
                continue


def test_a_full_disk(small_disk):
    cli = small_disk
    cli.container("true", options=("--name", "old"))
    eventually(lambda: not cli.ok("ps", "-q"), "it ends")
    before = cli.folders()
    fill(cli.state)
    sentence = cli.fails("run", "-d", "--name", "box", "busybox", "true", code=125)
    assert "space" in sentence
    assert cli.folders() == before
    assert os.listdir(cli.state / "names") == ["old"]
    assert "old" in cli.ok("ps", "-a")
    assert cli.ok("rm", "old") == "old\n"
    (cli.state / "ballast").unlink()
    assert cli.ok("run", "--rm", "--name", "box", "busybox", "echo", "room") == "room\n"


def test_a_full_disk_at_the_first_run(small_disk):
    cli = small_disk
    shutil.rmtree(cli.state / "layers")
    fill(cli.state)
    sentence = cli.fails("run", "busybox", "true", code=125)
    assert "space" in sentence
    assert not (cli.state / "layers").exists() or os.listdir(cli.state / "layers") == []
    assert cli.folders() == []


def test_a_disk_that_fills_up_while_a_container_talks(small_disk):
    cli = small_disk
    script = "echo first; i=0; while [ ! -e /dev/shm/stop ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 3"
    identifier = cli.container("sh", "-c", script, options=("--name", "talker"))
    eventually(lambda: cli.ok("logs", "talker").count("\n") > 2, "it talks")
    fill(cli.state)
    eventually(lambda: (cli.state / "ballast").stat().st_size and log_is_stuck(cli, identifier), "the log is full")
    assert cli.ok("exec", "talker", "echo", "alive") == "alive\n"
    log = cli.ok("logs", "talker").splitlines()
    assert log == ["first", *map(str, range(len(log) - 1))], "what is in the log is whole"
    (cli.state / "ballast").unlink()
    cli.ok("exec", "talker", "touch", "/dev/shm/stop")
    eventually(lambda: not cli.ok("ps", "-q"), "it ends")
    found = cli.inspect("talker")["State"]
    assert found["ExitCode"] == 3
    assert "log" in found["Error"]


def log_is_stuck(cli, identifier: str) -> bool:
    """Whether the log hasn't grown while the container has talked on."""
    log = cli.folder(identifier) / "log.jsonl"
    size = log.stat().st_size
    cli.ok("exec", identifier, "sleep", "0.1")
    return log.stat().st_size == size


def test_a_log_that_floods_the_disk(small_disk):
    cli = small_disk
    done = cli("run", "--name", "flood", "busybox", "sh", "-c", "yes 0123456789 | head -n 1000000; exit 4")
    assert done.returncode == 4
    assert done.stdout == "0123456789\n" * 1000000
    cli("rm", "flood")
    assert cli.folders() == []


def test_a_state_folder_that_overlay_refuses(busybox, tmp_path):
    for name in ("lower", "upper", "work", "state"):
        (tmp_path / name).mkdir()
    for name in ("images", "layers"):
        shutil.copytree(busybox / name, tmp_path / "lower" / name, symlinks=True)
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    mount = ["mount", "-t", "overlay", "-o", options, "overlay", tmp_path / "state"]
    subprocess.run(mount, check=True, timeout=SECONDS)
    try:
        cli = CommandLine(tmp_path / "state")
        sentence = cli.fails("run", "--rm", "busybox", "true", code=125)
        assert "MountOverlay" in sentence
        assert cli.folders() == []
    finally:
        subprocess.run(["umount", tmp_path / "state"], check=True, timeout=SECONDS)


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_state_folder_that_can_not_be_one(cli, tmp_path, kind):
    if kind == "file":
        place = tmp_path / "file"
        place.write_text("")
    else:
        place = Path("/proc/minicontainer")
    for words, code in ((("run", "busybox", "true"), 125), (("image", "bootstrap", "busybox"), 1)):
        done = cli("--root", str(place), *words)
        done.stderr = done.stderr.replace(PROGRESS, "")
        refusal(done, code)
    assert cli.ok("--root", str(tmp_path / "nowhere"), "ps", "-a").count("\n") == 1
    assert not (tmp_path / "nowhere").exists()


def test_the_smallest_memory(cli):
    assert (
        cli.fails("run", "--rm", "-m", "6291455", "busybox", "true", code=125) == "Minimum memory limit allowed is 6MB"
    )
    assert cli.ok("run", "--rm", "-m", "6m", "busybox", "echo", "fits") == "fits\n"
    assert cli.ok("run", "--rm", "-m", "6m", "--memory-swap", "6m", "busybox", "echo", "fits") == "fits\n"


# ── another user, another system ─────────────────────────────────────────────────────────────────────────────────────

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs")


@pytest.fixture
def nobody():
    """The command on a state folder of a normal user's own, run by that user."""
    reach = subprocess.run([*NOBODY, "test", "-r", CHECKOUT / "minicontainer"], check=False, timeout=SECONDS)
    if reach.returncode:
        pytest.skip("the user nobody can't read this checkout")
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    os.chown(folder, 65534, 65534)
    command = CommandLine(folder)
    command.command = [*NOBODY, *command.command]
    yield command
    command.clean()
    shutil.rmtree(folder)


def user_namespaces_are_open() -> bool:
    probe = subprocess.run([*NOBODY, "unshare", "--user", "--map-root-user", "true"], check=False, timeout=SECONDS)
    return probe.returncode == 0


def test_a_normal_user_has_containers_too(nobody):
    if not user_namespaces_are_open():
        pytest.skip("this machine closes user namespaces to normal users")
    cli = nobody
    cli("image", "bootstrap", "busybox", timeout=60)
    script = (
        "id; hostname; echo x >/made; rm -r /etc/hosts /var; ls -ld /root; cat /proc/self/uid_map; ip -o link | wc -l"
    )
    done = cli("run", "--rm", "-h", "box", "busybox", "sh", "-c", script)
    assert done.stdout.splitlines()[0].startswith("uid=0(root) gid=0(root)")
    assert done.stdout.splitlines()[1] == "box"
    assert done.stdout.splitlines()[-2].split() == ["0", "65534", "1"]
    assert done.stdout.splitlines()[-1] == "1"
    identifier = cli.container("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
    eventually(lambda: cli.ok("logs", identifier) == "up\n", "it is up")
    pid = cli.state_of(identifier)["first"][0]
    assert os.stat(f"/proc/{pid}").st_uid == 65534
    assert cli.ok("exec", identifier, "sh", "-c", "id -u; cat /proc/1/comm") == "0\nsh\n"
    if not any(groups(identifier)):  # unless one was delegated to this user
        assert "control groups" in cli.fails("run", "-m", "64m", "busybox", "true", code=125)
    cli.ok("stop", identifier)
    assert cli.state_of(identifier)["exitCode"] == 3
    cli.ok("rm", identifier)


def test_a_normal_user_on_roots_state_folder(nobody, busybox):
    cli = nobody
    for words, code in ((("run", "busybox", "true"), 125), (("ps", "-a"), 1), (("image", "bootstrap", "busybox"), 1)):
        done = cli("--root", str(busybox), *words)
        assert "Traceback" not in done.stderr
        if done.returncode:
            done.stderr = done.stderr.replace(PROGRESS, "")
            refusal(done, code)


def test_a_normal_user_without_user_namespaces(nobody):
    cli = nobody
    cli("image", "bootstrap", "busybox", timeout=60)
    forbid = Path("/proc/sys/user/max_user_namespaces")
    # in a user namespace of its own the number can be lowered without touching the machine's
    wrapped = ("unshare", "--user", "--map-root-user", "sh", "-c", f'echo 0 >{forbid} && exec "$@"', "sh")
    if not user_namespaces_are_open():
        wrapped = ()
    command = [*NOBODY, *wrapped, *CommandLine(cli.state).command]
    cli.command = command
    words = ("run", "--rm", "--userns", "private", "busybox", "true")
    sentence = cli.fails(*words, code=125)
    assert "CloneIntoNamespaces" in sentence
    assert cli.folders() == []


@pytest.mark.parametrize(("system", "remedy"), [("darwin", "Lima"), ("win32", "WSL2")])
def test_another_system(monkeypatch, capsys, system, remedy):
    monkeypatch.setattr(sys, "platform", system)
    assert command_line.main(["run", "busybox", "true"]) == 125
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith("minicontainer: ")
    assert system in first
    assert remedy in second
    assert command_line.main(["ps"]) == 1
    assert command_line.main(["--help"]) == 0
