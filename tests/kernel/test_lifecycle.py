"""A container's life: created, running, ended, gone. After each verb, what is written down and the kernel agree."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path

import pytest
from real_engine import eventually, groups, is_alive, mounts_with

cgroup2 = pytest.mark.cgroup2
TRAP = ("sh", "-c", 'trap "echo bye; exit 7" TERM; trap "echo hup" HUP; echo up; while :; do sleep 0.05; done')
DEAF = ("sh", "-c", 'trap "" TERM INT; echo up; while :; do sleep 0.05; done')


def running(cli, *command: str, options: tuple[str, ...] = ()) -> str:
    """The ID of a container that has said that it is up."""
    identifier = cli.container(*(command or TRAP), options=options)
    eventually(lambda: "up\n" in cli.ok("logs", identifier), "it says that it is up")
    return identifier


def column(cli, identifier: str, name: str = "STATUS") -> str:
    """What `ps -a` says of a container in one column; "" where it isn't listed."""
    header, *rows = cli.ok("ps", "-a", "--no-trunc").splitlines()
    start = header.index(name)
    following = re.match(rf"{name} +", header[start:])
    end = start + len(following[0]) if following and following.end() + start < len(header) else None
    return next((row[start:end].strip() for row in rows if row.startswith(identifier)), "")


def agree(cli, identifier: str, *, is_running: bool) -> None:
    """State file, inspect, ps and kernel tell the same; nothing of a container is ever mounted on the host."""
    state = cli.state_of(identifier)
    seen = cli.inspect(identifier)["State"]
    assert seen["Running"] is is_running
    assert seen["Status"] == state["status"] == ("running" if is_running else "exited")
    assert seen["Pid"] == (state["first"][0] if is_running else 0)
    assert column(cli, identifier).startswith("Up " if is_running else "Exited (")
    assert mounts_with(identifier) == []
    if is_running:
        assert groups(identifier)
        for group in groups(identifier):
            assert str(seen["Pid"]) in (group / "cgroup.procs").read_text().split()
        assert is_alive(state["monitor"][0])
    else:
        assert groups(identifier) == []
        assert not is_alive(state["first"][0])
        eventually(lambda: not is_alive(state["monitor"][0]), "the monitor ends")


# ── from start to end ────────────────────────────────────────────────────────────────────────────────────────────────


@cgroup2
def test_a_whole_life(cli):
    identifier = running(cli, options=("--name", "life"))
    assert re.fullmatch("[0-9a-f]{64}", identifier)
    agree(cli, identifier, is_running=True)
    assert cli.ok("exec", "life", "cat", "/proc/1/comm") == "sh\n"
    assert cli.ok("stop", "life") == "life\n"
    agree(cli, identifier, is_running=False)
    assert cli.state_of(identifier)["exitCode"] == 7
    assert cli.ok("logs", "life") == "up\nbye\n"
    assert cli.ok("rm", "life") == "life\n"
    assert cli.ok("ps", "-aq") == ""
    assert cli.folders() == []
    assert os.listdir(cli.state / "names") == []


def test_one_that_ends_by_itself(cli):
    identifier = cli.container("sh", "-c", "echo done; exit 3")
    eventually(lambda: column(cli, identifier).startswith("Exited (3)"), "it ends")
    agree(cli, identifier, is_running=False)
    assert cli.ok("ps", "-q") == ""
    assert cli.ok("ps", "-aq") == f"{identifier[:12]}\n"
    assert cli.ok("logs", identifier) == "done\n"


def test_ps(cli):
    first, second = running(cli, options=("--name", "one")), cli.container("true", options=("--name", "two"))
    eventually(lambda: column(cli, second).startswith("Exited (0)"), "it ends")
    header, *rows = cli.ok("ps", "-a").splitlines()
    assert header.split("   ")[0] == "CONTAINER ID"
    assert [title for title in ("IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES") if title not in header] == []
    assert re.match(rf'{second[:12]}   busybox   "true" .* ago .*Exited \(0\) .* ago .* two$', rows[0])
    assert re.match(rf'{first[:12]}   busybox   "sh -c \'?trap \\"echo .*…" .* ago .*Up .* one$', rows[1])
    assert len(cli.ok("ps").splitlines()) == 2
    assert cli.ok("ps", "--no-trunc", "-q") == f"{first}\n"


@cgroup2
def test_stop_kills_who_does_not_listen(cli):
    identifier = running(cli, *DEAF)
    assert cli.ok("stop", "-t", "0.3", identifier) == f"{identifier}\n"
    agree(cli, identifier, is_running=False)
    assert cli.state_of(identifier)["exitCode"] == 137
    assert cli.state_of(identifier)["oomKilled"] is False


def test_stop_waits_for_who_takes_a_while(cli):
    identifier = running(
        cli, "sh", "-c", 'trap "sleep 0.5; echo late; exit 4" TERM; echo up; while :; do sleep 0.05; done'
    )
    cli.ok("stop", identifier)
    assert cli.state_of(identifier)["exitCode"] == 4
    assert cli.ok("logs", identifier) == "up\nlate\n"


def test_stop_sends_the_images_own_signal(own_cli):
    cli = own_cli
    cli.derive("polite:latest", StopSignal="SIGUSR1")
    identifier = cli.ok("run", "-d", "polite", *TRAP[:2], 'trap "exit 9" USR1; while :; do sleep 0.05; done').strip()
    eventually(lambda: int(re.search(r"SigCgt:\t(\w+)", status(cli, identifier))[1], 16) >> 9 & 1, "the trap is set")
    cli.ok("stop", identifier)
    assert cli.state_of(identifier)["exitCode"] == 9


def status(cli, identifier: str) -> str:
    return cli.ok("exec", identifier, "cat", "/proc/1/status")


@cgroup2
@pytest.mark.parametrize(("word", "code"), [("KILL", 137), ("SIGKILL", 137), ("9", 137), ("TERM", 7), ("sigterm", 7)])
def test_kill(cli, word, code):
    identifier = running(cli)
    assert cli.ok("kill", "-s", word, identifier) == f"{identifier}\n"
    eventually(lambda: column(cli, identifier).startswith(f"Exited ({code})"), "it ends")
    agree(cli, identifier, is_running=False)


def test_a_signal_that_is_handled_ends_nothing(cli):
    identifier = running(cli)
    cli.ok("kill", "--signal=HUP", identifier)
    eventually(lambda: "hup\n" in cli.ok("logs", identifier), "the signal arrives")
    agree(cli, identifier, is_running=True)


@cgroup2
def test_rm(cli):
    identifier = running(cli, options=("--name", "box"))
    message = cli.fails("rm", "box", code=1)
    assert message.startswith("cannot remove a running container")
    agree(cli, identifier, is_running=True)
    pid = cli.state_of(identifier)["first"][0]
    assert cli.ok("rm", "-f", "box") == "box\n"
    assert not is_alive(pid)
    assert groups(identifier) == []
    assert cli.folders() == []


def test_rm_of_several_goes_through_all_of_them(cli):
    first, second = cli.container("true"), cli.container("true")
    eventually(lambda: not cli.ok("ps", "-q"), "they end")
    done = cli("rm", first, "nosuch", second)
    assert (done.returncode, done.stdout) == (1, f"{first}\n{second}\n")
    assert done.stderr.startswith("minicontainer: No such container: nosuch\n")
    assert cli.ok("ps", "-aq") == ""


def test_a_container_with_many_files_goes_too(cli):
    script = (
        "mkdir -p /a/b/c; chmod 0 /a/b; i=0; while [ $i -lt 300 ]; do echo x >/a/$i; i=$((i+1)); done; rm -r /etc /bin"
    )
    cli("run", "--name", "full", "busybox", "sh", "-c", script)
    cli.ok("rm", "full")
    assert cli.folders() == []


@cgroup2
def test_a_process_that_its_parent_left_behind_ends_with_the_container(cli):
    identifier = running(cli, "sh", "-c", "(setsid sleep 1000 &) ; setsid sleep 1000 & echo up; sleep 1000")
    inside = [int(pid) for group in groups(identifier) for pid in (group / "cgroup.procs").read_text().split()]
    assert len(set(inside)) >= 3
    cli.ok("kill", identifier)
    eventually(lambda: not any(map(is_alive, inside)), "all processes end")
    eventually(lambda: not groups(identifier), "the groups go")


# ── names and IDs ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_in_use(cli):
    identifier = running(cli, options=("--name", "box"))
    message = cli.fails("run", "-d", "--name", "box", "busybox", "true", code=125)
    assert message.endswith(f'he container name "/box" is already in use by container "{identifier}"')
    cli.ok("rm", "-f", "box")
    assert cli.ok("run", "--rm", "--name", "box", "busybox", "echo", "free again") == "free again\n"


def test_names_and_prefixes(cli):
    identifier = cli.container(options=("--name", "box"))
    for word in ("box", identifier, identifier[:12], identifier[:5]):
        assert cli.inspect(word)["Id"] == identifier
        assert cli.ok("exec", word, "echo", "x") == "x\n"
    others = [cli.container() for _ in range(17)]  # two of eighteen begin with the same of sixteen digits
    digits = [other[0] for other in (identifier, *others)]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    assert cli.fails("inspect", "-x", code=125)
    assert "multiple" in cli.fails("stop", twice, code=1).lower()
    for word in ("", "../containers", "..", "."):
        cli.fails("logs", word, code=1)


def test_a_name_that_looks_like_anothers_id_wins(cli):
    first = cli.container()
    second = cli.container(options=("--name", first[:12]))
    assert cli.inspect(first[:12])["Id"] == second
    assert cli.inspect(first)["Id"] == first


def test_names_are_made_up(cli):
    name = cli.inspect(cli.container())["Name"]
    assert re.fullmatch("/[a-z]+_[a-z]+", name)


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_logs_keep_the_streams_apart(cli):
    identifier = cli.container("sh", "-c", "echo out; echo err >&2; printf rest")
    eventually(lambda: not cli.ok("ps", "-q"), "it ends")
    done = cli("logs", identifier)
    assert (done.stdout, done.stderr) == ("out\nrest", "err\n")


def test_logs_of_a_foreground_run(cli):
    assert cli.ok("run", "--name", "box", "busybox", "seq", "3") == "1\n2\n3\n"
    assert cli.ok("logs", "box") == "1\n2\n3\n"
    assert cli.ok("logs", "--tail", "1", "box") == "3\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 3\n", cli.ok("logs", "-t", "-n", "1", "box"))


def test_logs_follow(cli):
    identifier = running(cli)
    follower = cli.start("logs", "-f", identifier)
    assert follower.stdout.readline() == b"up\n"
    cli.ok("kill", "-s", "HUP", identifier)
    assert follower.stdout.readline() == b"hup\n"
    cli.ok("stop", identifier)
    assert follower.communicate(timeout=20) == (b"bye\n", b"")
    assert follower.returncode == 0


def test_logs_are_lines_of_json(cli):
    identifier = cli.container("printf", "a\\n\\303\\251\\n\\377\\n")
    eventually(lambda: not cli.ok("ps", "-q"), "it ends")
    lines = (cli.folder(identifier) / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["log"] for line in lines] == ["a\n", "é\n", "\udcff\n"]
    assert {json.loads(line)["stream"] for line in lines} == {"stdout"}
    assert cli.ok("logs", identifier).encode("utf-8", "surrogateescape") == b"a\n\xc3\xa9\n\xff\n"


# ── exec ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@cgroup2
def test_exec(cli):
    identifier = running(cli)
    script = "echo $$ $(cat /proc/1/comm); pwd; id -u; echo err >&2; exit 5"
    done = cli("exec", identifier, "sh", "-c", script)
    assert re.fullmatch(r"\d+ sh\n/\n0\n", done.stdout)
    assert (done.returncode, done.stderr) == (5, "err\n")
    agree(cli, identifier, is_running=True)


def test_exec_is_limited_as_the_container_is(cli):
    identifier = running(cli)
    cli.start("exec", identifier, "sleep", "1234")
    (group, *_) = groups(identifier)

    def sleeper() -> list[int]:
        found = []
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended between the two looks
                if "1234" in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(int(pid))
        return found

    (pid,) = eventually(sleeper, "the executed process is in the container's group")
    cli.ok("stop", identifier)
    eventually(lambda: not is_alive(pid), "it ends with the container")


def test_exec_options(cli):
    identifier = running(cli, options=("-e", "ONE=1", "-e", "TWO=2", "-w", "/tmp"))
    script = "echo $ONE $TWO $THREE; pwd; id -u; id -g"
    assert cli.ok("exec", identifier, "sh", "-c", script) == "1 2\n/tmp\n0\n0\n"
    options = ("-e", "TWO=two", "-e", "THREE", "-w", "/var", "-u", "www-data")
    done = cli("exec", *options, identifier, "sh", "-c", script, env={"THREE": "3"})
    assert done.stdout == "1 two 3\n/var\n33\n33\n"


def test_exec_as_another_user_has_that_ones_home(cli):
    identifier = running(cli)
    assert cli.ok("exec", "-u", "www-data", identifier, "sh", "-c", "echo $HOME") == "/var/www\n"
    kept = running(cli, options=("-e", "HOME=/kept"))
    assert cli.ok("exec", "-u", "www-data", kept, "sh", "-c", "echo $HOME") == "/kept\n"


def test_exec_sees_users_that_were_added_inside(cli):
    identifier = running(cli)
    cli.ok("exec", identifier, "sh", "-c", "echo new:x:1234:1234::/:/bin/sh >>/etc/passwd")
    assert cli.ok("exec", "-u", "new", identifier, "id", "-u") == "1234\n"


def test_exec_in_one_that_does_not_run(cli):
    identifier = cli.container("true")
    eventually(lambda: not cli.ok("ps", "-q"), "it ends")
    assert cli.fails("exec", identifier, "true", code=1).endswith("is not running")
    assert cli.fails("exec", "nosuch", "true", code=1) == "No such container: nosuch"


def test_many_exec_at_once(cli):
    identifier = running(cli)
    started = [cli.start("exec", identifier, "echo", str(number)) for number in range(10)]
    assert [process.communicate(timeout=20)[0] for process in started] == [b"%d\n" % n for n in range(10)]


def test_the_end_of_the_container_ends_exec(cli):
    identifier = running(cli)
    attached = cli.start("exec", identifier, "sh", "-c", "echo in; sleep 1000")
    assert attached.stdout.readline() == b"in\n"
    cli.ok("kill", identifier)
    assert attached.wait(20) == 128 + signal.SIGKILL


# ── inspect ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_inspect(cli):
    options = (
        "--name",
        "box",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "9",
        "-h",
        "host",
        "-e",
        "A=1",
        "-w",
        "/tmp",
    )
    identifier = cli.container("sleep", "1000", options=options)
    found = cli.inspect("box")
    assert (found["Id"], found["Name"], found["Path"], found["Args"]) == (identifier, "/box", "sleep", ["1000"])
    assert found["Image"].startswith("sha256:")
    host = found["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 9)
    assert (host["AutoRemove"], host["ReadonlyRootfs"], host["NetworkMode"]) == (False, False, "none")
    config = found["Config"]
    assert (config["Hostname"], config["WorkingDir"], config["Image"]) == ("host", "/tmp", "busybox")
    assert (config["Tty"], config["OpenStdin"]) == (False, False)
    assert "A=1" in config["Env"]
    state = found["State"]
    assert is_alive(state["Pid"])
    assert (state["ExitCode"], state["OOMKilled"], state["Error"]) == (0, False, "")


def test_inspect_of_several_and_of_images(cli):
    first = cli.container()
    found = json.loads(cli.ok("inspect", first, "busybox"))
    assert [each["Id"] == first for each in found] == [True, False]
    done = cli("inspect", "nosuch", first)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["Id"] == first
    assert done.stderr == "minicontainer: No such object: nosuch\n"


def test_a_container_that_could_not_be_started_stays_as_created(cli):
    cli.fails("run", "--name", "box", "busybox", "nosuch", code=127)
    found = cli.inspect("box")["State"]
    assert (found["Status"], found["ExitCode"]) == ("created", 127)
    assert "nosuch" in found["Error"]
    assert column(cli, cli.inspect("box")["Id"]) == "Created"
    cli.ok("rm", "box")
