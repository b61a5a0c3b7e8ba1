"""The engine's verbs on a temporary state folder, with a starter that only takes notes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from minicontainer import engine as engine_module
from minicontainer.documents import render
from minicontainer.engine import Engine
from minicontainer.errors import (
    CommandNotFound,
    ContainerNotFound,
    HostError,
    ImageNotFound,
    InvalidArgument,
    MinicontainerError,
    NameInUse,
    StartFailed,
    WrongState,
)
from minicontainer.images.assembly import put_image
from minicontainer.inspection import inspect_container, inspect_image
from minicontainer.paths import Paths
from minicontainer.runtime import frames
from minicontainer.runtime.identity import identity_of
from minicontainer.runtime.monitor import Request
from minicontainer.runtime.plan import start_plan
from minicontainer.runtime.process import ChangeDirectory, Exec, SetEnvironment
from minicontainer.runtime.spec import Options

STARTED = {"started": 7}


class Notes:
    """A starter that starts nothing: it notes the request, and answers with a report."""

    def __init__(self, report: dict | None = None) -> None:
        self.requests: list[Request] = []
        self.report = STARTED if report is None else report

    def start(self, request: Request, client: int, lock: int = -1) -> None:
        self.requests.append(request)
        if self.report:
            frames.write_all(client, frames.frame(frames.REPORT, render(self.report)))

    def close(self) -> None:
        pass


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(state=str(tmp_path / "state"), cgroup=str(tmp_path / "cgroup"))


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def engine(paths: Paths, notes: Notes) -> Engine:
    made = Engine(paths, notes)
    image(made, Cmd=["sh"], Env=["A=image"], Labels=None)
    return made


def image(engine: Engine, name: str = "busybox", **config: object) -> None:
    """An image without layers: enough for all that doesn't run it."""
    document = {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": config}
    put_image(engine.store, (), document, (name,))


@pytest.fixture
def run(engine: Engine) -> Callable[..., str]:
    """Makes containers that run, as far as their documents say; first process and monitor are the same sleeper."""
    sleepers: list[subprocess.Popen[bytes]] = []

    def make(name: str = "web", **changes: object) -> str:
        sleepers.append(subprocess.Popen(["sleep", "60"]))
        identifier = engine.create("busybox", Options(), name)
        state = engine.bundles.read(identifier)
        first = identity_of(sleepers[-1].pid)
        state.update(status="running", first=first, monitor=first, startedAt=state["created"], **changes)
        engine.bundles.write(state)
        return identifier

    yield make
    for each in sleepers:
        each.kill()
        each.wait()


# ── create ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_create_makes_a_bundle_that_can_be_found(engine: Engine) -> None:
    identifier = engine.create("busybox", Options(hostname="box"), "web")
    assert len(identifier) == 64
    assert engine.find("web") == engine.find(identifier[:6]) == identifier
    assert engine.spec_of(identifier)["hostname"] == "box"
    state = engine.state_of(identifier)
    assert (state["status"], state["name"], state["image"]) == ("created", "web", "busybox")
    assert os.listdir(engine.paths.containers) == [identifier]


def test_who_gets_no_name_gets_the_first_free_one(engine: Engine, monkeypatch) -> None:
    names = iter(["kind_knuth", "kind_knuth", "kind_knuth", "busy_babbage"])
    monkeypatch.setattr(engine_module, "random_name", lambda: next(names))
    made = [engine.create("busybox", Options()) for _ in range(2)]
    assert [engine.state_of(each)["name"] for each in made] == ["kind_knuth", "busy_babbage"]


@pytest.mark.parametrize(
    ("reference", "name", "options", "error", "message"),
    [
        ("nope", "", Options(), ImageNotFound, "Unable to find image 'nope:latest' locally"),
        ("busybox", "web", Options(), NameInUse, 'the container name "/web" is already in use'),
        ("busybox", "a b", Options(), InvalidArgument, "Invalid container name (a b)"),
        ("busybox", "../x", Options(), InvalidArgument, "Invalid container name (../x)"),
        ("busybox", "", Options(network="bridge"), InvalidArgument, "network bridge not found"),
        ("busybox", "", Options(working_directory="x"), InvalidArgument, "the working directory 'x' is invalid"),
        ("busybox", "", Options(memory=1 << 20), InvalidArgument, "Minimum memory limit allowed is 6MB"),
        ("busybox", "", Options(cpus=9999), InvalidArgument, "Range of CPUs is from 0.01 to"),
        ("busybox", "", Options(cpuset_cpus="x"), InvalidArgument, "Invalid value x for cpuset cpus"),
        ("busybox", "", Options(user="nobody"), InvalidArgument, "unable to find user nobody"),
        ("busybox", "", Options(environment=("=x",)), InvalidArgument, "invalid environment variable"),
        ("busybox", "", Options(entrypoint=()), InvalidArgument, "no command specified"),
    ],
)
def test_what_can_not_be_made_leaves_nothing_behind(engine: Engine, reference, name, options, error, message) -> None:
    other = engine.create("busybox", Options(), "web")
    with pytest.raises(error) as caught:
        engine.create(reference, options, name)
    assert caught.value.message.startswith(message)
    assert os.listdir(engine.paths.containers) == [other]


@pytest.mark.parametrize("step", ["fill", "new_state"])
def test_a_full_disk_or_an_interrupt_leaves_nothing_half_made(engine: Engine, monkeypatch, step: str) -> None:
    for error in (OSError(errno.ENOSPC, "full"), KeyboardInterrupt()):

        def strike(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(engine_module, step, strike)
        with pytest.raises(type(error)):
            engine.create("busybox", Options(), "web")
        assert os.listdir(engine.paths.containers) == []


def test_the_next_create_sweeps_what_a_killed_one_left(engine: Engine) -> None:
    left = Path(engine.paths.containers, f".{'a' * 64}")
    left.mkdir(parents=True)
    identifier = engine.create("busybox", Options())
    assert os.listdir(engine.paths.containers) == [identifier]


def test_a_name_that_no_file_can_have_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidArgument):
        engine.create("busybox", Options(), "x" * 256)


def test_a_dry_run_makes_nothing(engine: Engine) -> None:
    text = engine.dry_run("busybox", Options(hostname="box", command=("ls", "-l")))
    assert "\nhostname box\n" in text
    assert "\nexec ls -l\n" in text
    assert not os.path.exists(engine.paths.containers)
    with pytest.raises(InvalidArgument):
        engine.dry_run("busybox", Options(network="x"))


# ── start ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_start_hands_the_plan_to_the_starter(engine: Engine, notes: Notes) -> None:
    identifier = engine.create("busybox", Options(tty=True, stdin=True))
    os.close(engine.start(identifier, attached=True))
    (request,) = notes.requests
    bundle = engine.bundles.folder(identifier)
    hierarchies = engine_module.detect(engine.paths)
    assert request.plan == start_plan(engine.spec_of(identifier), bundle, identifier, (), hierarchies)
    assert (request.tty, request.stdin, request.attached, request.record) == (True, True, True, True)


def test_what_runs_is_not_started(engine: Engine, run) -> None:
    with pytest.raises(WrongState, match="web is already running"):
        engine.start(run())


@pytest.mark.parametrize(
    ("report", "error", "message"),
    [
        ({"failed": "no sh", "hint": "look", "kind": "CommandNotFound"}, CommandNotFound, "no sh"),
        ({"failed": "what", "hint": "look", "kind": "NoSuchError"}, StartFailed, "what"),
        ({"failed": "ValueError()", "hint": "look", "kind": ""}, StartFailed, "ValueError()"),
        ({}, StartFailed, "the monitor was killed before the container had started"),
    ],
)
def test_a_start_that_failed_says_why(engine: Engine, notes: Notes, report: dict, error, message: str) -> None:
    notes.report = report
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MinicontainerError, match=f"^{message.replace('(', '.').replace(')', '.')}$") as caught:
        engine.start(engine.create("busybox", Options()))
    assert type(caught.value) is error
    assert caught.value.hint == ("look" if report else "try it again")
    assert len(os.listdir("/proc/self/fd")) == before


# ── exec ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def executed(engine: Engine, notes: Notes, identifier: str, options: Options) -> dict[type, object]:
    os.close(engine.exec(identifier, options))
    return {type(step): step for step in notes.requests[-1].plan}


def variables(steps: dict[type, object]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in steps[SetEnvironment].variables)


def test_exec_runs_another_command_in_the_same_environment(engine: Engine, notes: Notes, run) -> None:
    steps = executed(engine, notes, run(), Options(command=("ls", "-l"), environment=("B=exec", "A=exec")))
    assert steps[Exec] == Exec(("ls", "-l"))
    assert steps[ChangeDirectory] == ChangeDirectory("/")
    assert variables(steps).items() >= {"A": "exec", "B": "exec", "HOME": "/"}.items()
    assert not notes.requests[0].record


def test_exec_unsets_a_variable_as_run_does(engine: Engine, notes: Notes, run) -> None:
    assert "A" not in variables(executed(engine, notes, run(), Options(command=("env",), environment=("A",))))


def test_exec_refuses_a_variable_without_a_name(engine: Engine, run) -> None:
    with pytest.raises(InvalidArgument, match="invalid environment variable"):
        engine.exec(run(), Options(command=("env",), environment=("=x",)))


@pytest.mark.parametrize("command", [(), ("",)])
def test_exec_needs_a_command(engine: Engine, run, command: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="no command specified"):
        engine.exec(run(), Options(command=command))


def test_exec_needs_an_absolute_working_directory(engine: Engine, run) -> None:
    with pytest.raises(InvalidArgument, match="absolute path"):
        engine.exec(run(), Options(command=("ls",), working_directory="tmp"))


@pytest.mark.parametrize("verb", ["exec", "kill"])
def test_what_needs_a_running_container(engine: Engine, verb: str) -> None:
    identifier = engine.create("busybox", Options(), "web")
    with pytest.raises(WrongState, match="web"):
        engine.exec(identifier, Options(command=("ls",))) if verb == "exec" else engine.kill(identifier, 9)


# ── to the end ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kill_sends_a_signal_to_the_first_process(engine: Engine, run) -> None:
    identifier = run()
    engine.kill(identifier, signal.SIGUSR1)
    assert engine.wait(identifier, timeout=20) == 137  # what it was is the monitor's to say, and there is none


@pytest.mark.parametrize("stop_signal", ["", "SIGTERM", "INT", "9"])
def test_stop_sends_the_images_signal(engine: Engine, run, stop_signal: str) -> None:
    identifier = run(stopSignal=stop_signal)
    engine.stop(identifier)
    assert engine.state_of(identifier)["status"] == "exited"


@pytest.mark.parametrize("stop_signal", ["SIGRTMIN+3", "SIGNONSENSE", 15])
def test_stop_survives_an_images_odd_signal(engine: Engine, run, stop_signal: str | int) -> None:
    identifier = run(stopSignal=stop_signal)
    try:
        engine.stop(identifier)
    except MinicontainerError:
        return
    assert engine.state_of(identifier)["status"] == "exited"


def test_stop_of_what_does_not_run_is_no_error(engine: Engine) -> None:
    engine.stop(engine.create("busybox", Options()))


def test_waiting_for_what_never_ran_is_over(engine: Engine, run) -> None:
    assert engine.wait(engine.create("busybox", Options())) == 0
    assert engine.wait(run(), timeout=0) is None


def test_a_running_container_is_removed_by_force_only(engine: Engine, run) -> None:
    identifier = run()
    with pytest.raises(WrongState):
        engine.remove(identifier)
    engine.remove(identifier, force=True)
    assert engine.bundles.identifiers() == []


def test_who_removes_what_another_has_just_removed_is_told_so(engine: Engine, monkeypatch) -> None:
    identifier, other = engine.create("busybox", Options()), Engine(engine.paths)
    real_load = engine.bundles.load

    def load(wanted: str) -> dict:
        state = real_load(wanted)
        other.remove(wanted)
        return state

    monkeypatch.setattr(engine.bundles, "load", load)
    with pytest.raises(ContainerNotFound):
        engine.remove(identifier)


def test_containers_come_newest_first_and_the_ended_only_when_asked_for(engine: Engine, run) -> None:
    created = engine.create("busybox", Options(), "first")
    running = run("second")
    assert [state["id"] for state in engine.states()] == [running]
    assert [state["id"] for state in engine.states(ended=True)] == [running, created]


def test_logs_of_what_never_ran(engine: Engine) -> None:
    identifier = engine.create("busybox", Options())
    assert list(engine.logs(identifier, follow=True)) == []


def test_a_state_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = Engine(Paths(state=str(tmp_path / "file")), Notes())
    with pytest.raises((MinicontainerError, NotADirectoryError)):
        engine.create("busybox", Options())
    with pytest.raises(HostError):
        engine.store.put_blob(b"")


# ── inspect ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_inspect_is_json_in_dockers_words(engine: Engine, run) -> None:
    options = Options(memory=64 << 20, cpus=0.5, pids_limit=9, labels=(("a", "b"),), read_only=True)
    found = inspect_container(engine, engine.create("busybox", options, "web"))
    assert json.loads(json.dumps(found)) == found
    assert found["Name"] == "/web"
    assert (found["Path"], found["Args"]) == ("sh", [])
    assert found["State"]["Status"] == "created"
    assert (found["State"]["Running"], found["State"]["Pid"]) == (False, 0)
    assert found["Config"]["Labels"] == {"a": "b"}
    host = found["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        64 << 20,
        128 << 20,
        500_000_000,
        9,
    )
    assert host["ReadonlyRootfs"] is True
    assert inspect_container(engine, run("db"))["State"]["Running"] is True


def test_inspect_of_an_image(engine: Engine) -> None:
    found = inspect_image(engine, "busybox")
    assert (found["RepoTags"], found["Os"], found["Config"]["Cmd"]) == (["busybox:latest"], "linux", ["sh"])
    with pytest.raises(ImageNotFound):
        inspect_image(engine, "nope")


# ── what images say ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": 5},
        {"Cmd": "sh"},
        {"Entrypoint": {}, "Cmd": [7]},
        {"Cmd": ["sh"], "Env": "A=1"},
        {"Cmd": ["sh"], "Env": [1]},
    ]
    + [{"Cmd": ["sh"], "User": 5}, {"Cmd": ["sh"], "WorkingDir": 5}, {"Cmd": ["sh"], "StopSignal": 15}],
    ids=str,
)
def test_an_image_config_of_the_wrong_kind_is_refused(engine: Engine, config: dict) -> None:
    def make() -> None:
        image(engine, "odd", **config)
        engine.create("odd", Options())

    with pytest.raises(MinicontainerError):
        make()
    assert engine.states(ended=True) == []


def test_names_that_an_image_has_for_nothing_are_nothing(engine: Engine) -> None:
    image(
        engine, "nulls", Cmd=["sh"], Env=None, Entrypoint=None, User=None, WorkingDir=None, Labels=None, StopSignal=None
    )
    spec = engine.spec_of(engine.create("nulls", Options()))
    assert (spec["process"]["args"], spec["process"]["cwd"]) == (["sh"], "/")
