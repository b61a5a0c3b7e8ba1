"""Real control groups under `minicontainer/test-…`: v1, v2 or hybrid, whatever this machine has.

Needs root, nothing but pytest, and no particular version: the same tests run in a guest whose groups are v2 only.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from minicontainer.isolation.cgroups import (
    Cgroup,
    Limits,
    cgroup_of,
    cgroup_steps,
    detect,
)
from minicontainer.paths import Paths
from minicontainer.step import CHILD, Site, Step

MIB = 1 << 20
PATHS = Paths(state="/nonexistent")
HIERARCHIES = detect(PATHS)
SECONDS = 20
"""What no test needs: only there so that a failure doesn't hang."""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.cgroup2,
    pytest.mark.skipif(os.geteuid() != 0, reason="making control groups needs root"),
    pytest.mark.skipif(HIERARCHIES.version == "none", reason="no control groups are mounted"),
]


class Box:
    """A control group, and the processes that the test starts in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started: list[subprocess.Popen[str]] = []

    @property
    def cgroup(self) -> Cgroup:
        return cgroup_of(HIERARCHIES, self.name)

    def steps(self, limits: Limits) -> tuple[Step, ...]:
        return cgroup_steps(HIERARCHIES, self.name, limits)

    def make(self, limits: Limits | None = None) -> Step:
        """Perform the parent's steps; the one of the child is handed back."""
        *ours, join = self.steps(limits or Limits())
        for step in ours:
            step.execute(Site())
        assert join.side == CHILD
        return join

    def start(self, join: Step, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            preexec_fn=lambda: join.execute(Site()),  # noqa: PLW1509  these tests have one thread
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def python(self, join: Step, code: str) -> subprocess.Popen[str]:
        return self.start(join, sys.executable, "-I", "-S", "-c", textwrap.dedent(code))

    def end(self) -> None:
        self.cgroup.kill_all()
        for process in self.started:
            process.kill()
            process.communicate()
        self.cgroup.remove()


@pytest.fixture
def new_box(request: pytest.FixtureRequest) -> Iterator[Callable[[], Box]]:
    boxes: list[Box] = []

    def new() -> Box:
        boxes.append(Box(f"test-{os.getpid()}-{len(boxes)}"))
        return boxes[-1]

    yield new
    for box in boxes:
        box.end()
    for box in boxes:
        assert not box.cgroup.exists(), "the test left a control group behind"


@pytest.fixture
def box(new_box: Callable[[], Box]) -> Box:
    return new_box()


def value(box: Box, controller: str, v1: str, v2: str) -> str:
    """What the kernel says: from file `v1` or `v2`, whichever the controller's tree has."""
    tree = HIERARCHIES.of(controller)
    assert tree is not None
    return (Path(tree.group(box.name)) / (v1 if tree.version == 1 else v2)).read_text().strip()


def needs(*controllers: str) -> None:
    for name in controllers:
        if HIERARCHIES.of(name) is None:
            pytest.skip(f"the {name} controller is not here")


def test_the_kernel_has_taken_every_limit(box: Box) -> None:
    needs("memory", "cpu", "cpuset", "pids")
    box.make(Limits(memory=64 * MIB, cpu_quota=50_000, cpu_shares=512, cpuset_cpus="0", pids=32))
    assert value(box, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert value(box, "pids", "pids.max", "pids.max") == "32"
    assert value(box, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    assert value(box, "cpu", "cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 100000")
    assert value(box, "cpu", "cpu.cfs_period_us", "cpu.max") in ("100000", "50000 100000")
    assert value(box, "cpu", "cpu.shares", "cpu.weight") in ("512", "59")


@pytest.mark.parametrize(
    ("swap", "v1", "v2"),
    [(64 * MIB, 64 * MIB, "0"), (96 * MIB, 96 * MIB, 32 * MIB), (None, 128 * MIB, 64 * MIB)],
)
def test_swap_is_counted_as_the_version_counts_it(box: Box, swap: int | None, v1: int, v2: int | str) -> None:
    needs("memory")
    box.make(Limits(memory=64 * MIB, memory_swap=swap))
    try:
        found = value(box, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    except FileNotFoundError:
        pytest.skip("this kernel doesn't count swap")
    assert found in (str(v1), str(v2))


def test_a_process_is_in_every_group_that_was_made(box: Box) -> None:
    process = box.start(box.make(), "cat", "/proc/self/cgroup")
    groups = process.communicate(timeout=SECONDS)[0]
    ours = [line for line in groups.splitlines() if line.endswith(f"/minicontainer/{box.name}")]
    assert len(ours) == len(HIERARCHIES.used())


def test_one_that_takes_too_much_memory_is_killed_and_counted(box: Box) -> None:
    needs("memory")
    process = box.python(
        box.make(Limits(memory=24 * MIB, memory_swap=24 * MIB)),
        """
        print("started", flush=True)
        hog = [bytearray(1 << 20) for _ in range(256)]
        """,
    )
    assert process.communicate(timeout=SECONDS)[0] == "started\n"
    assert process.returncode == -signal.SIGKILL
    assert box.cgroup.oom_kills() == 1


def test_one_that_takes_little_is_not(box: Box) -> None:
    needs("memory")
    process = box.python(box.make(Limits(memory=64 * MIB)), "bytearray(1 << 20)")
    process.communicate(timeout=SECONDS)
    assert (process.returncode, box.cgroup.oom_kills()) == (0, 0)


def test_one_fork_too_many_fails(box: Box) -> None:
    needs("pids")
    process = box.python(
        box.make(Limits(pids=3)),
        """
        import errno, os, time
        for number in range(5):
            try:
                if os.fork() == 0:
                    time.sleep(60)
            except OSError as error:
                print(number, errno.errorcode[error.errno], flush=True)
                break
        """,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "2 EAGAIN\n"


def test_a_process_runs_on_its_cpus_only(box: Box) -> None:
    needs("cpuset")
    last = max(os.sched_getaffinity(0))
    process = box.python(box.make(Limits(cpuset_cpus=str(last))), "import os; print(os.sched_getaffinity(0))")
    assert process.communicate(timeout=SECONDS)[0] == f"{{{last}}}\n"


def test_what_a_process_uses_is_counted(box: Box) -> None:
    needs("memory")
    process = box.python(
        box.make(),
        """
        kept = bytearray(b"x") * (32 << 20)
        print("ready", flush=True)
        input()
        sum(range(1_000_000))
        print("done", flush=True)
        input()
        """,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    before = box.cgroup.cpu_usage()
    assert 0 < before < 60 * 10**9
    assert 32 * MIB < box.cgroup.memory_usage() < 128 * MIB
    assert box.cgroup.processes() == [process.pid]
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "done\n"
    assert box.cgroup.cpu_usage() > before


SPAWNING = """
    import os, signal, time
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()  # a daemon: no longer of its parent's session or process group
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            print("ready", flush=True)
            while True:  # new processes all the time
                if os.fork() == 0:
                    time.sleep(0.01)
                    os._exit(0)
                time.sleep(0.001)
    time.sleep(600)
    """


def test_all_are_killed_also_those_that_fork_meanwhile(box: Box) -> None:
    process = box.python(box.make(), SPAWNING)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(box.cgroup.processes()) >= 3
    assert box.cgroup.kill_all()
    assert box.cgroup.processes() == []
    process.wait(timeout=SECONDS)
    box.cgroup.remove()
    assert not box.cgroup.exists()


def test_a_frozen_one_is_killed(box: Box) -> None:
    process = box.start(box.make(), "sleep", "600")
    group = Path(box.cgroup.main)
    file, word = ("cgroup.freeze", "1") if box.cgroup.unified else ("freezer.state", "FROZEN")
    if not (group / file).exists():
        pytest.skip("this kernel can't freeze")
    (group / file).write_text(word)
    assert box.cgroup.kill_all()
    assert process.wait(timeout=SECONDS) == -signal.SIGKILL


def test_groups_that_a_container_makes_in_its_own_are_killed_and_removed(box: Box) -> None:
    join = box.make()
    groups = [Path(directory) / "a/b" for directory in box.cgroup.directories if os.path.isdir(directory)]
    for group in groups:
        group.mkdir(parents=True)
    process = box.start(join, "sleep", "600")
    for group in groups:
        if not (group / "cpuset.cpus").exists() or HIERARCHIES.version == "v2":
            (group / "cgroup.procs").write_text(str(process.pid))
    assert box.cgroup.processes() == [process.pid]
    assert box.cgroup.kill_all()
    assert process.wait(timeout=SECONDS) == -signal.SIGKILL
    box.cgroup.remove()
    assert not box.cgroup.exists()


def test_a_group_in_use_is_neither_taken_nor_emptied(box: Box) -> None:
    process = box.start(box.make(), "sleep", "600")
    with pytest.raises(OSError, match="busy") as caught:
        box.make()
    assert caught.value.errno == errno.EBUSY
    assert box.name in str(caught.value.filename)
    assert process.poll() is None


def test_limits_of_a_start_that_was_killed_do_not_stay(box: Box) -> None:
    needs("pids")
    box.make(Limits(pids=7))
    assert value(box, "pids", "pids.max", "pids.max") == "7"
    box.make()
    assert value(box, "pids", "pids.max", "pids.max") == "max"


def test_undone_in_reverse_nothing_is_left(box: Box) -> None:
    steps = box.steps(Limits(pids=7))
    process = box.start(box.make(Limits(pids=7)), "sleep", "600")
    for step in reversed(steps):
        step.undo(Site())
    assert process.wait(timeout=SECONDS) == -signal.SIGKILL
    assert not box.cgroup.exists()


def test_typing_what_the_plan_describes_does_the_same(box: Box) -> None:
    needs("memory", "cpu", "cpuset", "pids")
    limits = Limits(memory=64 * MIB, cpu_quota=50_000, cpu_shares=512, cpuset_cpus="0", pids=32)
    typed = "\n".join(step.describe() for step in box.steps(limits))
    script = f"{typed}\ncat /proc/self/cgroup"
    shell = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (shell.returncode, shell.stderr) == (0, "")
    assert shell.stdout.count(f"/minicontainer/{box.name}\n") == len(HIERARCHIES.used(cpuset=True))
    files = ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "cpuset.cpus", "pids.max")

    def said() -> dict[str, str]:
        found = {}
        for directory in box.cgroup.directories:
            for name in files:
                with suppress(FileNotFoundError):
                    found[f"{directory}/{name}"] = Path(directory, name).read_text()
        return found

    by_hand = said()
    assert len(by_hand) >= 4
    box.cgroup.remove()
    box.make(limits)
    assert said() == by_hand


def test_starts_and_removals_at_the_same_time_do_not_meet(new_box: Callable[[], Box]) -> None:
    """One removes the empty parent group while the other makes its own in it."""
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from minicontainer.isolation.cgroups import Limits, cgroup_of, cgroup_steps, detect
        from minicontainer.paths import Paths
        from minicontainer.step import Site
        hierarchies, name = detect(Paths(state="/nonexistent")), sys.argv[2]
        for _ in range(60):
            for step in cgroup_steps(hierarchies, name, Limits())[:-1]:
                step.execute(Site())
            cgroup_of(hierarchies, name).remove()
        """
    root = str(Path(__file__).resolve().parents[2])
    boxes = [new_box() for _ in range(2)]
    python = [sys.executable, "-I", "-S", "-c", textwrap.dedent(code), root]
    loops = [subprocess.Popen([*python, box.name], stderr=subprocess.PIPE, text=True) for box in boxes]
    assert [loop.communicate(timeout=SECONDS * 6)[1] for loop in loops] == ["", ""]


def test_the_top_of_a_container_hands_its_controllers_down(box: Box, tmp_path: Path) -> None:
    """Inside a cgroup namespace, at whose top processes are: an engine in a container."""
    if HIERARCHIES.version != "v2":
        pytest.skip("only cgroup v2 forbids processes in a group that hands controllers down")
    if Path("/sys/fs/cgroup/cgroup.type").exists():
        pytest.skip("this is a container itself")
    join = box.make()
    inside = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from minicontainer.isolation.cgroups import Limits, VacateCgroup, cgroup_of, cgroup_steps, detect
        from minicontainer.paths import Paths
        from minicontainer.step import Site
        paths = Paths(state="/nonexistent", cgroup=sys.argv[2])
        assert detect(paths).unified.crowded
        steps = cgroup_steps(detect(paths), "inner", Limits(pids=9))
        assert any(isinstance(step, VacateCgroup) for step in steps)
        for step in steps[:-1]:
            step.execute(Site())
        print(open(cgroup_of(detect(paths), "inner").unified + "/pids.max").read(), end="")
        assert not detect(paths).unified.crowded
        assert not any(isinstance(step, VacateCgroup) for step in cgroup_steps(detect(paths), "other", Limits()))
        """
    mounted = 'mount -t cgroup2 none "$3" && exec "$0" -I -S -c "$1" "$2" "$3"'
    root = str(Path(__file__).resolve().parents[2])
    inner = (sys.executable, textwrap.dedent(inside), root, str(tmp_path))
    process = box.start(join, "unshare", "-Cm", "sh", "-ec", mounted, *inner)
    assert process.communicate(timeout=SECONDS * 3) == ("9\n", "")


def test_a_user_limits_containers_in_a_group_that_was_delegated(box: Box) -> None:
    """What `systemd-run --user --scope -p Delegate=yes` gives: a group whose files belong to the user."""
    if HIERARCHIES.version != "v2":
        pytest.skip("only cgroup v2 lets users without privilege limit anything")
    nobody = 65534
    join = box.make()
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(Path(box.cgroup.unified, name), nobody, nobody)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # without an exec: this user may not be allowed to read this checkout
        try:
            join.execute(Site())
            os.setgroups([])
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
            found = detect(PATHS)
            for step in cgroup_steps(found, "inner", Limits(pids=9)):
                step.execute(Site())
            inner = cgroup_of(found, "inner")
            assert inner.processes() == [os.getpid()]
            os.write(writer, Path(inner.unified, "pids.max").read_bytes())
        except BaseException as error:  # noqa: BLE001  said on the other side
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    assert said == b"9\n"
