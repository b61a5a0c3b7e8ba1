"""A run of QEMU, with a shell script in QEMU's place: what is read of it, and that it never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minicontainer.errors import HostError
from minicontainer.lab.vm.session import Session, explain

BOOT = "Linux version 6\\n@minicontainer-t userspace 1\\n@minicontainer-t run 1\\n"
SECONDS = 20.0
"""What no test needs: only there so that a failure doesn't hang."""


@pytest.fixture
def start() -> Iterator[Callable[..., Session]]:
    """Start a script as if it were QEMU: $monitor is the descriptor of the monitor."""
    sessions = []

    def start(script: str, limit: float = SECONDS) -> Session:
        session = Session(lambda monitor: ["/bin/bash", "-c", f"monitor={monitor}; {script}"], "t", limit)
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.stop()


def ended(session: Session) -> bool:
    return session.wait(lambda: session.ended, SECONDS)


def gone(pid: int) -> bool:
    """Whether a process is gone, or soon will be."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # dead, and only not yet collected by whoever inherited it
            return True
        time.sleep(0.01)
    return False


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_run_from_the_greeting_to_the_end(start):
    session = start(f"echo greeting >&$monitor; printf '{BOOT}hello\\n@minicontainer-t exit 2 0 0\\n'")
    assert ended(session)
    names = [milestone.name for milestone in session.milestones()]
    assert names == ["hypervisor", "kernel", "userspace", "workload", "exit"] or set(names[:2]) == {
        "hypervisor",
        "kernel",
    }
    assert session.console.output == ["hello"]
    assert session.console.exit_code == 0
    assert (session.status, session.pid) == (0, 0)
    assert explain(session, 128) == ""


def test_milestones_are_in_seconds_since_the_start(start):
    session = start(f"printf '{BOOT}'; sleep 0.2; echo hello; sleep 100")
    assert session.wait(lambda: session.console.has("workload"), SECONDS)
    marks = {milestone.name: milestone.seconds for milestone in session.milestones()}
    assert 0 < marks["kernel"] <= marks["userspace"] < marks["workload"] <= session.seconds


def test_its_memory_is_sampled_while_it_runs(start):
    session = start(f"printf '{BOOT}'; sleep 100")
    deadline = time.monotonic() + SECONDS
    while len(session.samples) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    times = [sample.seconds for sample in session.samples]
    assert len(times) >= 3
    assert times == sorted(times)
    assert 0 < session.samples[-1].bytes < 64 << 20
    assert session.samples[-1].bytes % 1024 == 0


def test_stop_ends_and_reaps_it_and_may_be_repeated(start):
    session = start("sleep 100")
    assert session.wait(lambda: session.pid > 0, SECONDS)
    pid, supervisor = session.pid, session._process.pid
    session.stop()
    session.stop()
    assert session.ended
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{supervisor}").exists()
    assert explain(session, 128) == ""


def test_stop_works_before_it_runs(start):
    session = start("sleep 100")
    session.stop()
    assert session.ended


def test_stop_from_many_threads(start):
    import threading

    session = start("sleep 100")
    threads = [threading.Thread(target=session.stop) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.ended


def test_stop_works_although_a_forked_child_holds_the_pipe(start):
    session = start("sleep 100")
    keeper = subprocess.Popen(["sleep", "100"], pass_fds=[session._process.stdin.fileno()])
    try:
        session.stop()
        assert session.ended
        assert session._process.returncode == 0  # it was told, and hadn't to be killed
    finally:
        keeper.kill()
        keeper.wait()


def test_no_descriptor_and_no_thread_is_left(start):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        session = start("sleep 100")
        session.stop()
        assert not session._thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_machine_has_only_its_own_descriptors(start, tmp_path):
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        session = start("ls -l /proc/$$/fd >&2")
        assert ended(session)
    targets = [line.rpartition(" -> ")[2] for line in session.complaint.splitlines() if " -> " in line]
    kinds = sorted(target.partition(":")[0] for target in targets)
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"]


def owner(script: str, folder: Path) -> subprocess.Popen[str]:
    """A process that owns a session, prints the machine's pid and its supervisor's, and then sleeps."""
    program = f"""
        import time
        from minicontainer.lab.vm.session import Session
        session = Session(lambda monitor: ["/bin/bash", "-c", {script!r}], "t", 60)
        session.wait(lambda: session.pid > 0, 20)
        print(session.pid, session._process.pid, flush=True)
        time.sleep(100)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("script", ["sleep 100", "trap '' TERM INT HUP PIPE; while :; do sleep 1; done"])
def test_it_ends_when_its_owner_is_killed(tmp_path, script):
    notebook = owner(script, tmp_path)
    try:
        pid, supervisor = map(int, notebook.stdout.readline().split())
        assert Path(f"/proc/{pid}").exists()
    finally:
        notebook.kill()
        notebook.wait()
    assert gone(pid)
    assert gone(supervisor)
    with notebook.stdout, notebook.stderr:
        assert notebook.stderr.read() == ""  # nothing is said to a terminal whose program is gone


def test_it_ends_when_its_owner_is_killed_and_a_child_of_the_owner_lives(tmp_path):
    program = """
        import os, time
        from minicontainer.lab.vm.session import Session
        session = Session(lambda monitor: ["/bin/sleep", "100"], "t", 60)
        session.wait(lambda: session.pid > 0, 20)
        child = os.posix_spawn("/bin/sleep", ["sleep", "100"], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, session._process.stdin.fileno(), 9)])
        print(session.pid, child, flush=True)
        time.sleep(100)
    """
    notebook = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    pid, child = map(int, notebook.stdout.readline().split())
    notebook.kill()
    notebook.wait()
    notebook.stdout.close()
    try:
        assert Path(f"/proc/{child}/fd/9").exists()
        assert gone(pid)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_supervisor_is_killed(start, number):
    session = start(f"printf '{BOOT}'; exec sleep 100")
    assert session.wait(lambda: session.pid > 0 and session.console.has("userspace"), SECONDS)
    pid = session.pid
    assert children(session._process.pid) == [pid]
    os.kill(session._process.pid, number)
    assert ended(session)
    assert gone(pid)
    assert explain(session, 128) == "QEMU was ended by somebody else, with its supervisor"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'qemu-system-x86_64: no such kernel' >&2; exit 1", "QEMU failed: no such kernel"),
        ("kill -9 $$", "QEMU was ended by somebody else (SIGKILL)"),
        (
            "printf '[ 0.1] Kernel panic - not syncing: System is deadlocked on memory\\n'",
            "the guest's memory (128 MiB) is too small: System is deadlocked on memory",
        ),
        (
            "printf 'Linux version 6\\n[ 1.1] Kernel panic - not syncing: VFS: no root\\n'",
            "the guest's kernel panicked: VFS: no root",
        ),
        (
            f"printf '{BOOT}Killed\\n@minicontainer-t exit 3 137 1\\n'",
            "the guest's memory (128 MiB) is too small: its kernel killed 1 of the workload's processes",
        ),
        (
            f"printf '{BOOT}@minicontainer-t cannot 0 x: not found\\n@minicontainer-t exit 3 127 0\\n'",
            "the image's command can't be run (exit code 127): x: not found",
        ),
        (f"printf '{BOOT}sh: x: not found\\n@minicontainer-t exit 3 127 0\\n'", ""),
        ("printf '@minicontainer-t failed 1 no disk\\n'", "the guest couldn't be set up: no disk"),
        (":", "the guest's kernel never spoke: 128 MiB may be too few for it"),
        (
            "printf 'Linux version 6\\nlast\\n'",
            "the virtual machine ended before its workload did; its last line: last",
        ),
    ],
)
def test_what_went_wrong_is_one_sentence(start, script, sentence):
    session = start(script)
    assert ended(session)
    assert explain(session, 128) == sentence


def test_a_guest_that_hangs_is_ended_and_its_last_line_told(start):
    session = start("printf 'Linux version 6\\nprobing\\n'; exec sleep 100", limit=0.5)
    assert ended(session)
    assert (
        explain(session, 128) == "the guest didn't reach userspace in time, and was ended; the last line was: probing"
    )


def test_a_guest_in_userspace_may_run_as_long_as_it_likes(start):
    session = start(f"printf '{BOOT}'; sleep 1; echo late; sleep 100", limit=0.5)
    assert session.wait(lambda: session.console.has("workload"), SECONDS)
    assert not session.hung


def test_no_process_for_it_is_an_error_of_the_host(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="No such file"):
        Session(lambda _: ["true"], "t", 1.0)
    assert len(os.listdir("/proc/self/fd")) == before
