"""Whoever is killed, whenever: containers live on unless their monitor died, and the next command copes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from real_engine import CHECKOUT, SECONDS, eventually, groups, is_alive

COUNT = ("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done")


def lines(cli, name: str) -> int:
    return cli.ok("logs", name).count("\n")


def goes_on(cli, name: str) -> None:
    """The container runs, its log grows, and it still does what it is told."""
    before = lines(cli, name)
    eventually(lambda: lines(cli, name) > before + 3, "the log grows")
    assert cli.inspect(name)["State"]["Running"] is True
    assert cli.ok("exec", name, "echo", "alive") == "alive\n"
    log = cli.ok("logs", name)
    assert log == "".join(f"{n}\n" for n in range(log.count("\n")))


def python(cli, code: str, **options) -> subprocess.Popen[bytes]:
    """A Python process that uses the engine, as a notebook does; it prints what its test is to know."""
    setup = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from minicontainer import Engine; engine = Engine()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", setup + code],
        env=cli.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        **options,
    )
    cli.started.append(process)
    return process


# ── who may die ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_of_a_foreground_run(cli):
    attached = cli.start("run", "--name", "box", "busybox", *COUNT)
    assert attached.stdout.readline() == b"0\n"
    attached.kill()
    attached.wait(SECONDS)
    goes_on(cli, "box")


def test_the_command_of_a_foreground_run_that_takes_input(cli):
    attached = cli.start("run", "-i", "--name", "box", "busybox", *COUNT, stdin=subprocess.PIPE)
    assert attached.stdout.readline() == b"0\n"
    attached.kill()
    attached.wait(SECONDS)
    goes_on(cli, "box")


def test_the_command_of_an_exec(cli):
    identifier = cli.container(*COUNT)
    attached = cli.start("exec", identifier, "sh", "-c", "echo in; while :; do sleep 0.05; echo more; done")
    assert attached.stdout.readline() == b"in\n"
    attached.kill()
    attached.wait(SECONDS)
    goes_on(cli, identifier)


def test_the_whole_session_of_the_command(cli):
    """What a terminal that is closed, or a broken connection, does."""
    attached = cli.start("run", "--name", "box", "busybox", *COUNT, start_new_session=True)
    assert attached.stdout.readline() == b"0\n"
    os.killpg(attached.pid, signal.SIGKILL)
    attached.wait(SECONDS)
    goes_on(cli, "box")


def test_the_launcher(cli):
    code = f"""
first = engine.containers.run("busybox", {COUNT}, detach=True)
print(first.id, engine._starter._process.pid, flush=True)
sys.stdin.readline()
print(engine.containers.run("busybox", ["echo", "again"], remove=True).decode().strip(), flush=True)
second = engine.containers.run("busybox", {COUNT}, detach=True)
print(second.id, engine._starter._process.pid, flush=True)
sys.stdin.readline()
engine.close()
"""
    process = python(cli, code)
    first, launcher = process.stdout.readline().decode().split()
    os.kill(int(launcher), signal.SIGKILL)
    eventually(lambda: not is_alive(int(launcher)), "the launcher dies")
    goes_on(cli, first)
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"again\n"
    second, other = process.stdout.readline().decode().split()
    assert other != launcher
    goes_on(cli, first)
    goes_on(cli, second)
    process.communicate(b"\n", timeout=SECONDS)
    assert process.returncode == 0
    eventually(lambda: not is_alive(int(other)), "the launcher ends with its client")


def test_a_notebooks_kernel(cli):
    code = f"""
import threading
for _ in range(12):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(engine.containers.run("busybox", {list(COUNT)!r}, detach=True).id, engine._starter._process.pid, flush=True)
threading.Event().wait()
"""
    process = python(cli, code)
    identifier, launcher = process.stdout.readline().decode().split()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
    goes_on(cli, identifier)
    eventually(lambda: not is_alive(int(launcher)), "the launcher ends with its client")
    goes_on(cli, identifier)


# ── who may not ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_monitor(cli):
    identifier = cli.container("sh", "-c", "setsid sleep 1000 & sleep 1000", options=("--name", "box"))
    state = cli.state_of(identifier)
    os.kill(state["monitor"][0], signal.SIGKILL)
    eventually(lambda: not is_alive(state["first"][0]), "the container dies with its monitor")
    (row,) = cli.ok("ps", "-a").splitlines()[1:]
    assert "Exited (137)" in row
    assert groups(identifier) == []
    found = cli.inspect("box")["State"]
    assert (found["Status"], found["ExitCode"], found["Pid"]) == ("exited", 137, 0)
    assert "monitor" in found["Error"]
    assert cli.ok("ps", "-q") == ""
    assert cli.ok("rm", "box") == "box\n"
    assert cli.folders() == []


@pytest.mark.parametrize("verb", [("rm", "-f"), ("logs",), ("stop",), ("inspect",), ("ps", "-aq")])
def test_every_verb_copes_with_a_dead_monitor(cli, verb):
    identifier = cli.container("sh", "-c", "echo up; sleep 1000")
    eventually(lambda: cli.ok("logs", identifier) == "up\n", "it is up")
    os.kill(cli.state_of(identifier)["monitor"][0], signal.SIGKILL)
    cli.ok(*verb, *([] if verb[0] == "ps" else [identifier]))
    assert groups(identifier) == []


def test_exec_and_kill_after_the_monitor_died(cli):
    identifier = cli.container()
    os.kill(cli.state_of(identifier)["monitor"][0], signal.SIGKILL)
    assert cli.fails("exec", identifier, "true", code=1).endswith("is not running")
    assert cli.fails("kill", identifier, code=1).endswith("is not running")


def test_the_monitor_of_a_foreground_run(cli):
    attached = cli.start("run", "--name", "box", "busybox", *COUNT)
    assert attached.stdout.readline() == b"0\n"
    (identifier,) = cli.folders()
    os.kill(cli.state_of(identifier)["monitor"][0], signal.SIGKILL)
    _, errors = attached.communicate(timeout=SECONDS)
    assert re.fullmatch(rb"minicontainer: [^\n]*monitor was killed[^\n]*\n  hint: [^\n]*\n", errors)
    assert attached.returncode == 125


def test_the_monitor_of_an_exec(cli):
    identifier = cli.container(*COUNT)
    attached = cli.start("exec", identifier, "sh", "-c", "echo in; exec sleep 7777")
    assert attached.stdout.readline() == b"in\n"

    def inside() -> list[int]:
        pids = groups(identifier)[0].joinpath("cgroup.procs").read_text().split()
        return [int(pid) for pid in pids if b"7777" in open_bytes(f"/proc/{pid}/cmdline")]

    (pid,) = eventually(inside, "the executed process")
    monitor = int(open_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), "the executed process dies with its monitor")
    attached.wait(SECONDS)
    goes_on(cli, identifier)


def open_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


# ── at any moment ────────────────────────────────────────────────────────────────────────────────────────────────────


def duration(cli) -> float:
    """How long a start takes here and now, in seconds: the slowest of three."""
    slowest = 0.0
    for _ in range(3):
        start = time.monotonic()
        cli.ok("run", "--rm", "busybox", "true")
        slowest = max(slowest, time.monotonic() - start)
    return slowest


MOMENTS = 41


def test_killing_a_start_at_any_moment(cli):
    step = duration(cli) / (MOMENTS - 10)
    for number in range(MOMENTS):
        process = cli.start("run", "-d", "--name", f"box{number}", "busybox", "sh", "-c", "echo up; exec sleep 1000")
        time.sleep(number * step)
        process.kill()
        process.communicate(timeout=SECONDS)
    cli.ok("run", "--rm", "busybox", "true")
    eventually(lambda: not [name for name in cli.folders() if name.startswith(".")], "the next start tidies up")
    rows = {row.split()[-1]: row for row in cli.ok("ps", "-a").splitlines()[1:]}
    assert set(os.listdir(cli.state / "names")) >= set(rows)
    kinds = set()
    for name, row in rows.items():
        identifier = cli.inspect(name)["Id"]
        if "Created" in row:  # the command died between the two halves of run
            kinds.add("created")
            assert groups(identifier) == []
            assert cli.inspect(name)["State"]["Pid"] == 0
            cli.ok("rm", name)
        else:
            kinds.add("running")
            assert " Up " in row
            eventually(lambda name=name: cli.ok("logs", name) == "up\n", "it runs in full")
            assert cli.ok("exec", name, "cat", "/proc/1/comm") == "sleep\n"
    assert "running" in kinds
    assert len(rows) < MOMENTS, "not one of the commands was killed early"
    for number in range(MOMENTS):  # every name can be taken again, whatever became of its owner
        if f"box{number}" not in rows:
            cli.ok("run", "--rm", "--name", f"box{number}", "busybox", "true")


def test_interrupting_a_start_at_any_moment(cli):
    """Ctrl-C: quiet, or handed on to the process; nothing half-made stays."""
    step = duration(cli) / 18
    trap = 'trap "exit 42" INT; i=0; while [ $i -lt 100 ]; do sleep 0.02; i=$((i+1)); done'
    codes = set()
    for number in range(20):
        process = cli.start("run", "--rm", "busybox", "sh", "-c", trap)
        time.sleep(number * step)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
        assert output == b""
        # Python answers in its own way before it comes to our first line
        assert re.search(rb'minicontainer[^"]*", line [1-9]', errors) is None
        if b"Traceback" not in errors:
            assert errors == b""
            codes.add(process.returncode)
    assert codes <= {0, 42, 130, -signal.SIGINT}
    cli.ok("run", "--rm", "busybox", "true")
    eventually(lambda: not cli.folders(), "nothing stays")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 5), (signal.SIGTERM, 6), (signal.SIGHUP, 7)])
def test_a_signal_to_a_foreground_run_is_handed_on(cli, number, code):
    script = 'trap "exit 5" INT; trap "exit 6" TERM; trap "exit 7" HUP; echo up; while :; do sleep 0.05; done'
    attached = cli.start("run", "--rm", "busybox", "sh", "-c", script)
    assert attached.stdout.readline() == b"up\n"
    attached.send_signal(number)
    assert attached.wait(SECONDS) == code


def test_killing_a_removal_at_any_moment(cli):
    cli.ok("run", "--rm", "busybox", "true")
    start = time.monotonic()
    cli("rm", "nosuch")
    step = (time.monotonic() - start) / 8
    names = [f"box{number}" for number in range(12)]
    for name in names:
        cli("run", "--name", name, "busybox", "sh", "-c", "seq 300 | (cd /tmp; xargs touch)")
    for number, name in enumerate(names):
        process = cli.start("rm", name)
        time.sleep(number * step)
        process.kill()
        process.communicate(timeout=SECONDS)
    left = {row.split()[-1] for row in cli.ok("ps", "-a").splitlines()[1:]}
    for name in names:
        if name in left:
            cli.ok("rm", name)
        else:
            cli.ok("run", "--rm", "--name", name, "busybox", "true")
    eventually(lambda: not cli.folders(), "all are gone")


# ── at the same time ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_that_want_the_same_name(cli):
    for number in range(20):
        words = ("run", "-d", "--name", f"twin{number}", "busybox", "true")
        pair = [cli.start(*words), cli.start(*words)]
        results = [process.communicate(timeout=SECONDS) for process in pair]
        assert sorted(process.returncode for process in pair) == [0, 125]
        winner = next(index for index, process in enumerate(pair) if process.returncode == 0)
        identifier = results[winner][0].decode().strip()
        assert results[1 - winner][0] == b""
        assert re.fullmatch(
            rf"minicontainer: [^\n]*he container name \"/twin{number}\" is already in use by container"
            rf" \"{identifier}\"[^\n]*\n  hint: [^\n]+\n",
            results[1 - winner][1].decode(),
        )
    assert len(cli.folders()) == 20
    assert len(os.listdir(cli.state / "names")) == 20


def test_twenty_at_once(cli):
    started = [cli.start("run", "--rm", "busybox", "sh", "-c", f"echo {n}; exit {n}") for n in range(20)]
    results = [process.communicate(timeout=SECONDS) for process in started]
    assert results == [(f"{n}\n".encode(), b"") for n in range(20)]
    assert [process.returncode for process in started] == list(range(20))
    eventually(lambda: not cli.folders(), "all are gone")


def test_removing_while_others_look(cli):
    for _ in range(3):
        identifiers = [cli.container("true") for _ in range(4)]
        eventually(lambda: not cli.ok("ps", "-q"), "they end")
        removers = [cli.start("rm", identifier) for identifier in identifiers]
        lookers = [cli.start("ps", "-a") for _ in range(4)]
        for process in (*removers, *lookers):
            _, errors = process.communicate(timeout=SECONDS)
            assert (process.returncode, errors) == (0, b"")


def test_two_that_remove_the_same(cli):
    for _ in range(5):
        identifier = cli.container()
        pair = [cli.start("rm", "-f", identifier) for _ in range(2)]
        errors = [process.communicate(timeout=SECONDS)[1].decode() for process in pair]
        assert 0 in [process.returncode for process in pair]
        assert "Traceback" not in "".join(errors)
        assert [text for text in errors if text and "No such container" not in text] == []
        assert cli.folders() == []


def test_following_ends_with_the_container(cli):
    identifier = cli.container("sh", "-c", "echo one; sleep 0.3; printf two")
    follower = cli.start("logs", "-f", identifier)
    assert follower.communicate(timeout=SECONDS) == (b"one\ntwo", b"")
    assert follower.returncode == 0


def test_following_ends_when_the_container_is_removed_or_its_monitor_killed(cli):
    for end in ("rm", "kill"):
        identifier = cli.container("sh", "-c", "echo one; sleep 1000")
        follower = cli.start("logs", "-f", identifier)
        assert follower.stdout.readline() == b"one\n"
        if end == "rm":
            cli.ok("rm", "-f", identifier)
        else:
            os.kill(cli.state_of(identifier)["monitor"][0], signal.SIGKILL)
        assert follower.communicate(timeout=SECONDS) == (b"", b"")
        assert follower.returncode == 0
