"""`from minicontainer import Engine`: docker-py's vocabulary, from a process with threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from real_engine import CHECKOUT, SECONDS, eventually, groups, is_alive

from minicontainer import Engine
from minicontainer.errors import (
    CommandNotExecutable,
    CommandNotFound,
    ContainerNotFound,
    ImageNotFound,
    InvalidArgument,
    NameInUse,
    WrongState,
)
from minicontainer.objects import Container, ContainerError

TALKER = ["sh", "-c", 'trap "echo bye; exit 7" TERM; echo up; echo err >&2; while :; do sleep 0.05; done']


@pytest.fixture
def engine(cli):
    engine = Engine(str(cli.state))
    yield engine
    engine.close()


def running(engine: Engine, command: list[str] = TALKER, **options) -> Container:
    container = engine.containers.run("busybox", command, detach=True, **options)
    eventually(lambda: b"up\n" in container.logs(), "it is up")
    return container


def test_run(engine):
    assert engine.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    assert engine.containers.run("busybox", "echo 'hello world'", remove=True) == b"hello world\n"
    assert engine.containers.run("busybox", ["printf", "\\377"], remove=True) == b"\xff"
    assert engine.containers.list(all=True) == []


def test_run_gives_standard_output_alone(engine):
    assert engine.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True) == b"out\n"


def test_much_output(engine):
    expected = b"".join(b"%d\n" % n for n in range(1, 100001))
    assert engine.containers.run("busybox", ["seq", "100000"], remove=True) == expected


def test_options(engine):
    script = "echo $A; hostname; pwd; id -u; grep NoNewPrivs /proc/self/status; touch /x 2>/dev/null || echo read-only"
    output = engine.containers.run(
        "busybox",
        ["sh", "-c", script],
        environment={"A": "1 2"},
        hostname="box",
        working_directory="/srv",
        user="33",
        read_only=True,
        no_new_privileges=True,
        remove=True,
    )
    assert output == b"1 2\nbox\n/srv\n33\nNoNewPrivs:\t1\nread-only\n"


def test_a_run_that_fails(engine):
    with pytest.raises(ContainerError) as caught:
        engine.containers.run("busybox", ["sh", "-c", "echo out; echo why >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3
    assert caught.value.stderr == b"why\n"
    assert "exit code 3" in str(caught.value)
    assert caught.value.hint == "why"
    assert engine.containers.list(all=True) == []


@pytest.mark.parametrize(
    ("image", "command", "error"),
    [
        ("nosuch", ["true"], ImageNotFound),
        ("busybox", ["nosuch"], CommandNotFound),
        ("busybox", ["/etc/passwd"], CommandNotExecutable),
    ],
)
@pytest.mark.parametrize("detach", [False, True])
def test_errors(engine, image, command, error, detach):
    with pytest.raises(error) as caught:
        engine.containers.run(image, command, remove=True, detach=detach)
    assert caught.value.message
    assert caught.value.hint
    assert engine.containers.list(all=True) == []


def test_more_errors(engine):
    with pytest.raises(InvalidArgument):
        engine.containers.run("busybox", ["true"], name="/bad/", remove=True)
    with pytest.raises(InvalidArgument):
        engine.containers.run("busybox", ["true"], memory=1, remove=True)
    with pytest.raises(ContainerNotFound):
        engine.containers.get("nosuch")
    container = running(engine, name="box")
    with pytest.raises(NameInUse):
        engine.containers.create("busybox", ["true"], name="box")
    with pytest.raises(WrongState):
        container.remove()
    container.remove(force=True)
    with pytest.raises(ContainerNotFound):
        _ = container.status


def test_a_container(engine):
    container = running(engine, name="box")
    assert (container.name, container.status, container.short_id) == ("box", "running", container.id[:12])
    assert repr(container) == f"<Container: {container.short_id}>"
    assert container.id in [each.id for each in engine.containers.list()]
    assert engine.containers.get("box").id == container.id
    assert engine.containers.get(container.short_id).id == container.id
    assert container.attrs["State"]["Pid"] == container.pid
    assert is_alive(container.pid)
    assert is_alive(container.monitor_pid)
    assert container.pid in container.processes()
    assert container.memory_usage() > 0
    assert container.logs() == b"up\nerr\n"
    assert (container.logs(stderr=False), container.logs(stdout=False)) == (b"up\n", b"err\n")

    container.stop()
    assert container.status == "exited"
    assert container.wait() == {"StatusCode": 7}
    assert (container.pid, container.monitor_pid) == (0, 0)
    assert container.logs(stderr=False) == b"up\nbye\n"
    assert engine.containers.list() == []
    assert [each.id for each in engine.containers.list(all=True)] == [container.id]
    with pytest.raises(WrongState):
        container.kill()
    container.remove()
    assert engine.containers.list(all=True) == []


def test_create_and_start(engine):
    container = engine.containers.create("busybox", ["echo", "once more"], name="box")
    assert container.status == "created"
    assert groups(container.id) == []
    for times in (1, 2):
        container.start()
        assert container.wait() == {"StatusCode": 0}
        assert container.logs() == b"once more\n" * times
    container.remove()


def test_exec_run(engine):
    container = running(engine, environment=["A=1"])
    assert container.exec_run(["echo", "hi"]) == (0, b"hi\n")
    result = container.exec_run(
        "sh -c 'echo $A $B $(pwd) $(id -u); exit 4'", environment={"B": "2"}, workdir="/tmp", user="33"
    )
    assert (result.exit_code, result.output) == (4, b"1 2 /tmp 33\n")
    with pytest.raises(CommandNotFound):
        container.exec_run(["nosuch"])
    assert container.exec_run(["seq", "50000"]).output == b"".join(b"%d\n" % n for n in range(1, 50001))
    assert container.status == "running"


def test_follow(engine):
    container = engine.containers.run(
        "busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], detach=True
    )
    assert list(container.follow()) == [b"1\n", b"2\n", b"3\n"]
    assert container.wait() == {"StatusCode": 0}


def test_kill_and_wait(engine):
    container = running(engine)
    with pytest.raises(TimeoutError):
        container.wait(timeout=0.05)
    container.kill("SIGTERM")
    assert container.wait(timeout=SECONDS) == {"StatusCode": 7}
    container = running(engine)
    container.kill()
    assert container.wait(timeout=SECONDS) == {"StatusCode": 137}
    assert groups(container.id) == []


def test_stop_of_one_that_does_not_listen(engine):
    container = running(engine, ["sh", "-c", 'trap "" TERM; echo up; while :; do sleep 0.05; done'])
    container.stop(timeout=0.2)
    assert container.wait() == {"StatusCode": 137}


def test_a_limit(engine):
    container = running(engine, memory=64 << 20, pids_limit=20)
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    assert container.exec_run(["sh", "-c", "i=0; while [ $i -lt 30 ]; do sleep 9 & i=$((i+1)); done"]).exit_code == 2


def test_images(engine):
    (image,) = engine.images.list()
    assert image.reference == "busybox:latest"
    assert engine.images.get("busybox").id == image.id
    with pytest.raises(ImageNotFound):
        engine.images.get("nosuch")


def test_a_notebook_shows_it(engine):
    container = engine.containers.create("busybox", ["true"], name="box")
    html = container._repr_html_()
    assert "<table>" in html
    assert "box" in html
    assert "created" in html


# ── the launcher ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def crowd():
    """A dozen threads, as a notebook's kernel has them."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(12)]
    for thread in threads:
        thread.start()
    yield
    end.set()
    for thread in threads:
        thread.join()


def launcher_of(engine: Engine) -> int:
    return engine._starter._process.pid


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_with_threads(engine, crowd):
    for number in range(5):
        assert engine.containers.run("busybox", ["echo", str(number)], remove=True) == b"%d\n" % number
    assert threading.active_count() >= 13


def test_from_several_threads_at_once(engine):
    results: dict[int, object] = {}

    def work(number: int) -> None:
        try:
            results[number] = engine.containers.run("busybox", ["sh", "-c", f"sleep 0.1; echo {number}"], remove=True)
        except Exception as error:  # noqa: BLE001 - whatever it is: the comparison below shows it
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert results == {number: b"%d\n" % number for number in range(8)}


def test_the_launcher_stays_warm_and_small(engine):
    engine.containers.run("busybox", ["true"], remove=True)
    launcher = launcher_of(engine)
    engine.containers.run("busybox", ["true"], remove=True)
    assert launcher_of(engine) == launcher
    status = Path(f"/proc/{launcher}/status").read_text()
    assert "Threads:\t1\n" in status
    loaded = Path(f"/proc/{launcher}/maps").read_text()
    assert [name for name in ("pyroute2", "libssl", "_ssl.", "numpy") if name in loaded] == []


def test_the_launcher_hands_nothing_on(engine):
    """What a notebook has open is not a container's business, and not its launcher's."""
    descriptor = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        container = running(engine)
        for pid in (container.pid, container.monitor_pid, launcher_of(engine)):
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            assert "/etc" not in links
    finally:
        os.close(descriptor)


def test_the_launcher_starts_again(engine):
    engine.containers.run("busybox", ["true"], remove=True)
    launcher = launcher_of(engine)
    os.kill(launcher, signal.SIGKILL)
    eventually(lambda: not is_alive(launcher), "it dies")
    for number in range(3):
        assert engine.containers.run("busybox", ["echo", str(number)], remove=True) == b"%d\n" % number
    assert launcher_of(engine) != launcher


def test_the_launcher_and_its_spare_start_again(engine):
    engine.containers.run("busybox", ["true"], remove=True)
    launcher = launcher_of(engine)
    spares = eventually(lambda: children(launcher), "its spare")
    for pid in (launcher, *spares):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, (launcher, *spares))), "both die")
    for number in range(3):
        assert engine.containers.run("busybox", ["echo", str(number)], remove=True) == b"%d\n" % number


def test_no_zombies(engine):
    for _ in range(5):
        engine.containers.run("busybox", ["true"], remove=True)
    launcher = launcher_of(engine)

    def zombies() -> list[int]:
        return [pid for pid in children(launcher) if not is_alive(pid)]

    assert len(zombies()) <= 2  # those that have ended since the last start


def test_close_leaves_no_process_and_no_container_dies(cli):
    engine = Engine(str(cli.state))
    container = running(engine)
    launcher = launcher_of(engine)
    spares = eventually(lambda: [pid for pid in children(launcher) if pid != container.monitor_pid], "its spare")
    engine.close()
    eventually(lambda: not any(map(is_alive, (launcher, *spares))), "launcher and spare end")
    assert container.status == "running"
    assert container.exec_run(["echo", "alive"]).output == b"alive\n"  # it starts again when it is needed
    other = launcher_of(engine)
    assert other != launcher
    engine.close()
    engine.close()
    eventually(lambda: not is_alive(other), "it ends too")
    assert is_alive(container.monitor_pid)


def test_an_interrupted_cell_leaves_a_working_engine(cli):
    """Jupyter's Stop button: SIGINT to the kernel, in the middle of a run."""
    code = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from minicontainer import Engine; engine = Engine()\n"
        "engine.containers.run('busybox', ['true'], remove=True)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    engine.containers.run('busybox', ['sleep', '1000'], remove=True, name='box')\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)\n"
        "print(engine.containers.run('busybox', ['echo', 'fine'], remove=True), engine.containers.list(all=True))\n"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, env=cli.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    cli.started.append(process)
    assert process.stdout.readline() == b"ready\n"
    eventually(lambda: "box" in cli.ok("ps"), "the container runs")
    time.sleep(0.1)  # until the client waits for its end
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=SECONDS)
    assert errors == b""
    assert output == b"stopped\nb'fine\\n' []\n"
