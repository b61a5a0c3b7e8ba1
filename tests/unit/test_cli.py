"""The command line with bad input: one sentence, a hint, Docker's exit code, nothing half-made left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minicontainer import cli
from minicontainer.cli import COMMANDS, main
from minicontainer.engine import Engine
from minicontainer.errors import CommandNotExecutable, CommandNotFound, HostError, StartFailed
from minicontainer.images.assembly import put_image
from minicontainer.paths import Paths
from minicontainer.runtime.spec import Options

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine with an image that has no layers."""
    made = Engine(Paths(state=str(tmp_path / "state"), cgroup=str(tmp_path / "cgroup")))
    document = {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["sh"]}}
    put_image(made.store, (), document, ("busybox",))
    return made


@pytest.fixture
def command(engine: Engine, capsys) -> Command:
    """Runs one command line on that engine's folder: exit code, what it printed, and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--root", engine.paths.state, *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


BAD_LINES = [
    # arguments, exit code, the message's beginning, what the hint has
    (["nope"], 1, "'nope' is not a minicontainer command.", "minicontainer help"),
    (["rn"], 1, "'rn' is not a minicontainer command.", "did you mean: minicontainer r"),
    (["run"], 1, '"minicontainer run" requires at least 1 argument.', "usage: minicontainer run"),
    (["run", "--nope", "busybox"], 125, "unknown flag: --nope", "minicontainer run --help"),
    (["run", "-z", "busybox"], 125, "unknown shorthand flag: 'z' in -z", "minicontainer run --help"),
    (["run", "--name"], 125, "flag needs an argument: --name", "minicontainer run --help"),
    (["run", "-m", "lots", "busybox"], 125, 'invalid argument "lots" for "-m, --memory" flag', "--help"),
    (["run", "nope"], 125, "Unable to find image 'nope:latest' locally", "busybox:latest"),
    (["run", "not an image"], 125, "invalid reference format", "busybox"),
    (
        ["run", "BUSYBOX"],
        125,
        "invalid reference format: repository name (library/BUSYBOX) must be lowercase",
        "busybox",
    ),
    (["run", "-m", "5k", "busybox"], 125, "Minimum memory limit allowed is 6MB", "6m"),
    (["run", "--cpus", "9999", "busybox"], 125, "Range of CPUs is from 0.01 to", ""),
    (["run", "--pids-limit", "99999999", "busybox"], 125, "Range of PIDs limit is from 1", ""),
    (["run", "--name", "a b", "busybox"], 125, "Invalid container name (a b)", "two characters"),
    (["run", "--name", "über", "busybox"], 125, "Invalid container name (über)", "two characters"),
    (["run", "--network", "moon", "busybox"], 125, "network moon not found", "none and host"),
    (["run", "-w", "tmp", "busybox"], 125, "the working directory 'tmp' is invalid", ""),
    (["run", "-u", "nobody", "busybox"], 125, "unable to find user nobody", "--user 1000"),
    (["run", "-e", "=x", "busybox"], 125, "invalid environment variable: =x", ""),
    (["run", "-e", "", "busybox"], 125, "invalid environment variable:", ""),
    (["run", "--entrypoint", "", "busybox"], 125, "no command specified", "minicontainer run IMAGE COMMAND"),
    (
        ["run", "--security-opt", "apparmor=x", "busybox"],
        125,
        "invalid --security-opt: 'apparmor=x'",
        "no-new-privileges",
    ),
    (["run", "--userns", "moon", "busybox"], 125, "invalid --userns: 'moon'", "host and private"),
    (["run", "--dry-run", "nope"], 125, "Unable to find image 'nope:latest' locally", ""),
    (["exec"], 1, '"minicontainer exec" requires at least 2 arguments.', "usage: minicontainer exec"),
    (["exec", "web"], 1, '"minicontainer exec" requires at least 2 arguments.', "usage: minicontainer exec"),
    (["exec", "--nope", "web", "ls"], 125, "unknown flag: --nope", "minicontainer exec --help"),
    (["exec", "web", "ls"], 1, "No such container: web", "ps -a"),
    (["ps", "web"], 1, '"minicontainer ps" accepts no arguments.', ""),
    (["ps", "--nope"], 125, "unknown flag: --nope", "minicontainer ps --help"),
    (["logs"], 1, '"minicontainer logs" requires exactly 1 argument.', "usage: minicontainer logs"),
    (["logs", "one", "two"], 1, '"minicontainer logs" requires exactly 1 argument.', "usage: minicontainer logs"),
    (["logs", "web"], 1, "No such container: web", "ps -a"),
    (["stop"], 1, '"minicontainer stop" requires at least 1 argument.', "usage: minicontainer stop"),
    (["stop", "-t", "soon", "web"], 125, 'invalid argument "soon" for "-t, --time" flag', ""),
    (["stop", "web"], 1, "No such container: web", "ps -a"),
    (["kill", "web"], 1, "No such container: web", "ps -a"),
    (["kill", "-s", "MOON", "web"], 1, "invalid signal: MOON", "TERM"),
    (["kill", "-s", "65", "web"], 1, "invalid signal: 65", "1 to 64"),
    (["rm", "web"], 1, "No such container: web", "ps -a"),
    (["rm", "-f", "web"], 1, "No such container: web", "ps -a"),
    (["rm"], 1, '"minicontainer rm" requires at least 1 argument.', "usage: minicontainer rm"),
    (["inspect"], 1, '"minicontainer inspect" requires at least 1 argument.', "usage: minicontainer inspect"),
    (["inspect", "web"], 1, "No such object: web", ""),
    (["inspect", "a b"], 1, "No such object: a b", ""),
    (["rmi"], 1, '"minicontainer rmi" requires at least 1 argument.', "usage: minicontainer rmi"),
    (["image"], 1, "unknown command: minicontainer image", "usage: minicontainer image bootstrap"),
    (["image", "moon"], 1, "unknown command: minicontainer image moon", "usage: minicontainer image bootstrap"),
    (["image", "bootstrap"], 1, '"minicontainer image bootstrap" requires exactly 1 argument.', "busybox|debian"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    BAD_LINES,
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_bad_input_is_told_in_a_sentence(command: Command, engine: Engine, arguments, code, message, hint) -> None:
    seen, out, errors = command(*arguments)
    first, *rest = errors.splitlines()
    assert first.startswith(f"minicontainer: {message}")
    assert all(line.startswith("  hint: ") for line in rest)
    assert len(rest) <= 1
    assert hint in "".join(rest)
    assert out in ("", "[]\n")
    assert seen == code
    assert engine.bundles.identifiers() == []


def test_a_hint_is_something_that_helps(command: Command) -> None:
    assert "write it as not an image" not in command("run", "Not An Image")[2]


# BUG: the verb is looked for among all words: a folder or an argument of that name is taken for it.
@pytest.mark.parametrize(("words", "code"), [(["flags"], 1), (["image", "flag"], 1), (["nope", "run"], 1)])
def test_the_exit_code_does_not_depend_on_the_users_words(command: Command, words: list[str], code: int) -> None:
    assert command(*words)[0] == code


# BUG: as above.
@pytest.mark.parametrize(("words", "code"), [(["run", "stop", "web"], 1), (["ps", "run", "nope"], 125)])
def test_the_exit_code_does_not_depend_on_the_folders_name(monkeypatch, tmp_path, words: list[str], code: int) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--root", *words]) == code


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--cpus", "nan", "busybox"],
        ["run", "--cpus", "inf", "busybox"],
        ["run", "--dry-run", "--cpus", "nan", "busybox"],
        ["run", "-m", "9" * 400, "busybox"],
        ["run", "--pids-limit", "9" * 5000, "busybox"],
        ["run", "-u", "9" * 5000, "busybox"],
        ["run", "--cpuset-cpus", "9" * 5000, "busybox"],
        ["stop", "-t", "nan", "web"],
        ["logs", "-n", "9" * 5000, "web"],
        ["kill", "-s", "9" * 5000, "web"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_no_number_ends_in_a_traceback(command: Command, engine: Engine, arguments: list[str]) -> None:
    engine.create("busybox", Options(), "web")
    code, _, errors = command(*arguments)
    assert code != 0
    assert errors.startswith("minicontainer: ")


NOT_UTF_8 = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("arguments", [["ps", "-a"], ["ps", "-a", "--no-trunc"], ["inspect", "web"]])
def test_an_argument_that_is_not_utf_8_does_not_hide_the_containers(
    command: Command, engine: Engine, arguments
) -> None:
    engine.create("busybox", Options(command=("echo", NOT_UTF_8)), "web")
    code, out, _ = command(*arguments)
    assert code == 0
    assert "web" in out


def test_a_dry_run_of_an_argument_that_is_not_utf_8(command: Command) -> None:
    code, out, _ = command("run", "--dry-run", "busybox", "echo", NOT_UTF_8)
    assert code == 0
    assert "exec echo" in out


# ── help ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("word", [[], ["help"], ["--help"], ["-h"]])
def test_the_overview_has_every_verb(command: Command, word: list[str]) -> None:
    code, out, errors = command(*word)
    assert (code, errors) == (0, "")
    for name, each in COMMANDS.items():
        assert f"  {name}" in out
        assert each.summary in out


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_every_verb_explains_itself(command: Command, verb: str) -> None:
    code, out, errors = command(verb, "--help")
    assert (code, errors) == (0, "")
    assert out.startswith(f"Usage:  minicontainer {COMMANDS[verb].usage}\n\n{COMMANDS[verb].summary}\n")


def test_the_overview_has_the_verbs_of_others_too(capsys) -> None:
    assert main([], {"doctor": "Look at this machine"}) == 0
    assert ["doctor", "Look at this machine"] in [
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
    ]


@pytest.mark.parametrize(
    "arguments",
    [["run", "-d", "--help"], ["image", "bootstrap", "--help"], ["rm", "web", "--help"], ["run", "-d", "--help", "-x"]],
)
def test_help_among_the_flags(command: Command, arguments: list[str]) -> None:
    code, out, _ = command(*arguments)
    assert (code, out[:6]) == (0, "Usage:")


# BUG: the engine is made before the arguments are read: on a Mac there is no help.
def test_help_needs_no_linux(command: Command, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert command("run", "--help")[0] == 0


def test_help_for_the_containers_command_is_not_ours(command: Command) -> None:
    code, out, _ = command("run", "--dry-run", "busybox", "ls", "--help")
    assert code == 0
    assert "\nexec ls --help\n" in out


# ── what is there ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ps_shows_dockers_columns(command: Command, engine: Engine) -> None:
    identifier = engine.create("busybox", Options(command=("sleep", "1000")), "web")
    code, out, _ = command("ps", "-a")
    header, row = out.splitlines()
    assert code == 0
    assert header.replace(" ID", "_ID").split() == [
        "CONTAINER_ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ]
    assert row.startswith(f'{identifier[:12]}   busybox   "sleep 1000"   ')
    assert row.endswith("   web")
    assert "Created" in row
    assert command("ps")[1].splitlines() == [command("ps")[1].strip()]
    assert command("ps", "-aq")[1] == f"{identifier[:12]}\n"
    assert command("ps", "-aq", "--no-trunc")[1] == f"{identifier}\n"


def test_ps_passes_over_who_was_removed_meanwhile(command: Command, engine: Engine, monkeypatch) -> None:
    engine.create("busybox", Options(), "stays")
    gone = engine.create("busybox", Options(), "gone")
    states = engine.states(ended=True)
    engine.remove(gone)
    monkeypatch.setattr(Engine, "states", lambda *_, **__: states)
    code, out, errors = command("ps", "-a")
    assert (code, errors) == (0, "")
    assert "stays" in out


def test_images_shows_dockers_columns(command: Command) -> None:
    header, row = command("images")[1].splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert row.split()[:2] == ["busybox", "latest"]


@pytest.mark.parametrize("word", ["host:5000/team/app", "host:5000/team/app:v1", "busybox:latest"])
def test_images_of_one_name(command: Command, engine: Engine, word: str) -> None:
    engine.store.tag(engine.store.resolve("busybox"), "host:5000/team/app:v1")
    rows = command("images", word)[1].splitlines()[1:]
    assert len(rows) == 1
    assert rows[0].split()[0] == word.removesuffix(":v1").removesuffix(":latest")


@pytest.mark.parametrize("created", ["yesterday", "2026", "0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z"])
def test_images_survives_an_odd_date(command: Command, engine: Engine, created: str) -> None:
    put_image(engine.store, (), {"architecture": "amd64", "os": "linux", "created": created, "config": {}}, ("odd",))
    code, out, _ = command("images")
    assert code == 0
    assert "odd" in out


# ── several at once ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_those_that_are_there_are_removed_and_the_others_named(command: Command, engine: Engine) -> None:
    for name in ("one", "two"):
        engine.create("busybox", Options(), name)
    assert command("rm", "one", "nope", "two") == (
        1,
        "one\ntwo\n",
        "minicontainer: No such container: nope\n"
        "  hint: minicontainer ps -a lists all containers, also those that have ended\n",
    )


def test_a_damaged_container_does_not_keep_the_others(command: Command, engine: Engine) -> None:
    damaged = engine.create("busybox", Options(), "damaged")
    engine.create("busybox", Options(), "good")
    Path(engine.bundles.folder(damaged), "state.json").write_bytes(b"{}")
    assert "Damaged" in command("ps", "-a")[1]
    code, out, errors = command("rm", "damaged", "good")
    assert (code, out) == (1, "good\n")
    assert "damaged state.json" in errors


def test_a_damaged_container_can_be_removed_by_force(command: Command, engine: Engine) -> None:
    damaged = engine.create("busybox", Options(), "damaged")
    Path(engine.bundles.folder(damaged), "state.json").write_bytes(b"{}")
    assert command("rm", "-f", "damaged") == (0, "damaged\n", "")
    assert engine.bundles.identifiers() == []


def test_an_image_that_a_container_uses_stays(command: Command, engine: Engine) -> None:
    engine.create("busybox", Options(), "web")
    code, _, errors = command("rmi", "busybox")
    assert code == 1
    assert "busybox" in errors
    assert engine.store.resolve("busybox")


# ── errors of other kinds ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "verb", "code", "text"),
    [
        (CommandNotFound("no sh", "look"), "run", 127, "minicontainer: no sh\n  hint: look\n"),
        (CommandNotExecutable("no"), "run", 126, "minicontainer: no\n"),
        (CommandNotFound("no ls"), "exec", 127, "minicontainer: no ls\n"),
        (StartFailed("broken"), "run", 125, "minicontainer: broken\n"),
        (StartFailed("broken"), "exec", 126, "minicontainer: broken\n"),
        (HostError("no overlay"), "ps", 1, "minicontainer: no overlay\n"),
        (
            PermissionError(13, "Permission denied", "/x"),
            "ps",
            1,
            "minicontainer: permission denied: /x\n  hint: run it with sudo",
        ),
        (
            OSError(28, "No space left on device", "/x"),
            "ps",
            1,
            "minicontainer: no space left on device: /x\n  hint: free some space",
        ),
        (OSError(5, "Input/output error"), "run", 125, "minicontainer: input/output error\n"),
        (KeyboardInterrupt(), "run", 130, ""),
        (BrokenPipeError(), "ps", 1, ""),
    ],
)
def test_exit_codes_are_dockers(
    command: Command, monkeypatch, error: BaseException, verb: str, code: int, text: str
) -> None:
    def strike(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_dispatch", strike)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    seen, _, errors = command(verb, "x")
    assert (seen, errors[: len(text)]) == (code, text)


def test_not_linux_says_how_to_get_one(command: Command, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    code, _, errors = command("run", "busybox")
    assert code == 125
    assert "this is darwin" in errors
    assert "Lima" in errors
    assert "WSL2" in errors


@pytest.mark.parametrize("line", [["--root", "{}"], ["--root={}"]])
def test_the_state_folder_is_the_users_choice(tmp_path: Path, capsys, line: list[str]) -> None:
    assert main([*(word.format(tmp_path) for word in line), "ps", "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [["--root=", "ps"], ["--root", "", "ps"], ["--root"]])
def test_a_state_folder_must_be_named(capsys, monkeypatch, tmp_path: Path, line: list[str]) -> None:
    """An empty one, of a variable that isn't set, must not mean the machine's own."""
    monkeypatch.setenv("MINICONTAINER_ROOT", str(tmp_path))
    assert main(line) != 0
    assert "--root" in capsys.readouterr().err


def test_a_terminal_is_refused_where_there_is_none(command: Command, engine: Engine, monkeypatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: False)
    code, _, errors = command("run", "-it", "busybox")
    assert (code, "the input device is not a TTY" in errors) == (1, True)
    assert engine.bundles.identifiers() == []


# ── standard output ───────────────────────────────────────────────────────────────────────────────────────────────────


def as_a_command(checkout: Path, *arguments: str, stdout: int) -> tuple[int, str]:
    """The same in a process of its own, its output buffered as it is for a pipe."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-S", str(checkout / "minicontainer/cli/minicontainer"), *arguments],
        env={**environment, "PYTHONPATH": str(checkout)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_reader_who_has_seen_enough_is_no_error(checkout: Path) -> None:
    end, start = os.pipe()
    os.close(end)
    code, errors = as_a_command(checkout, "help", stdout=start)
    os.close(start)
    assert (code, errors) == (1, "")


def test_a_full_disk_behind_standard_output_is_a_sentence(checkout: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    code, errors = as_a_command(checkout, "help", stdout=full)
    os.close(full)
    assert code == 1
    assert errors.startswith("minicontainer: no space left on device")


CLOSED = """
import os, sys
from minicontainer.__main__ import main
code = main(["--root", sys.argv[1], "ps", "-q"])
os._exit(code or (os.open("/dev/null", os.O_RDONLY) < 3))
"""


# Else the first files that are opened become 0, 1 and 2 (the lock, the socket to the monitor), and a monitor puts
# /dev/null in the place of these.
def test_closed_standard_streams_are_opened_before_anything_else_is(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", CLOSED, str(tmp_path)]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], cwd=checkout, check=False)
    assert done.returncode == 0
