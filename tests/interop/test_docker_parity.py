"""The same command lines, run by Docker and by this engine on the same files: same output, same exit code.

The Docker daemon is the test's own: it lives in a mount namespace of its own, keeps its files in a temporary folder and
its control groups below `minicontainer`, and touches neither bridge nor firewall. Where it can't be had, the tests are
skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from real_engine import SECONDS, CommandLine, eventually
from terminals import Terminal

from minicontainer.isolation.cgroups import detect
from minicontainer.isolation.cgroups.tree import kill_tree, remove_if_empty, remove_tree
from minicontainer.paths import Paths

pytestmark = [pytest.mark.kernel, pytest.mark.peer("docker", "dockerd", "containerd", "runc")]

PATIENCE = 60
"""Seconds that Docker may take for a command: many times what it needs."""


PRIVATELY = """
mkdir "$0"; mount -t tmpfs tmpfs "$0"
for place in etc run; do
    mkdir -p "$0/$place/upper" "$0/$place/work"
    mount -t overlay -o "lowerdir=/$place,upperdir=$0/$place/upper,workdir=$0/$place/work" overlay /$place
done
exec "$@"
"""
"""Whatever it is told, the daemon writes to /etc/docker and /run/docker, and its containerd to /run/containerd."""


class Docker(NamedTuple):
    """A Docker of our own: the command and where its daemon listens."""

    command: list[str]
    environment: dict[str, str]

    def __call__(self, *words: str, input: bytes = b"") -> tuple[int, str]:  # noqa: A002 - as subprocess calls it
        done = subprocess.run(
            [*self.command, *words],
            input=input,
            capture_output=True,
            env=self.environment,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture(scope="session")
def docker(busybox, needs):
    """Docker with the files of our busybox as its image of that name."""
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    parent = f"docker-{os.getpid()}"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", PRIVATELY, folder / "private", "dockerd"]
    words += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    words += ["-H", f"unix://{folder}/socket", "--bridge=none", "--iptables=false", "--ip-forward=false"]
    words += ["--ip-masq=false", "--cgroup-parent", f"/minicontainer/{parent}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
    client = Docker([needs("docker"), "-H", f"unix://{folder}/socket"], {**environment, "DOCKER_CONFIG": str(folder)})
    try:
        wait_for(daemon, client, folder / "log")
        (layer,) = (each for each in (busybox / "layers").iterdir() if each.is_dir())
        archive = subprocess.run(
            ["tar", "-C", layer, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE, timeout=PATIENCE, check=True
        ).stdout
        path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        code, text = client("import", "-c", 'CMD ["sh"]', "-c", path, "-", "busybox:latest", input=archive)
        assert code == 0, text
        yield client
    finally:
        end(daemon)
        for tree in detect(Paths(state="/nonexistent")).trees:
            group = f"{tree.mount}/minicontainer/{parent}"
            kill_tree(group)
            remove_tree(group)
            remove_if_empty(f"{tree.mount}/minicontainer")
        remove_groups(parent)
        shutil.rmtree(folder)


def wait_for(daemon: subprocess.Popen[bytes], client: Docker, log: Path) -> None:
    """Until the daemon answers; the test is skipped where it ends instead."""
    deadline = time.monotonic() + PATIENCE
    while client("version", "--format", "{{.Server.Version}}")[0]:
        if daemon.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"dockerd doesn't start here: {log.read_text(errors='replace').strip().splitlines()[-1]}")
        time.sleep(0.1)


def end(daemon: subprocess.Popen[bytes]) -> None:
    """Ask the daemon to end, which ends its containerd; then make sure of all that are left of its session."""
    daemon.terminate()
    try:
        daemon.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(PATIENCE)
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and session_of(process) == daemon.pid:
            os.kill(int(process.name), signal.SIGKILL)


def session_of(process: Path) -> int:
    try:
        return int((process / "stat").read_bytes().rpartition(b")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def remove_groups(parent: str) -> None:
    """What the daemon's runtime has left in the trees that our engine doesn't use."""
    for top in Path("/sys/fs/cgroup").glob(f"*/minicontainer/{parent}"):
        remove_tree(str(top))
        remove_if_empty(str(top.parent))


# ── one command, one container ───────────────────────────────────────────────────────────────────────────────────────


def as_it_is(text: str) -> str:
    return text


def sorted_lines(text: str) -> str:
    return "".join(sorted(text.splitlines(keepends=True)))


def without_ids(text: str) -> str:
    """Container IDs, whole or their first twelve digits."""
    return re.sub(r"\b[0-9a-f]{12}([0-9a-f]{52})?\b", "<id>", text)


def without_pipe_numbers(text: str) -> str:
    """Pipes have numbers, and files times."""
    return re.sub(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d", "<time>", re.sub(r"pipe:\[\d+\]", "pipe:[]", text))


def own_mounts(text: str) -> str:
    """Without the overlay's folders and the devices that hold the files for /etc and hide others.

    Control groups differ by version, and who ours shows are those that it uses.
    """
    kept = [line for line in text.splitlines() if "/sys/fs/cgroup" not in line]
    kept = [re.sub(r"^overlay on / type overlay \((\w+),.*", r"overlay on / (\1)", line) for line in kept]
    kept = [re.sub(r"^\S+ on (/etc/\w+\S*) type \S+ \((\w+),.*", r"\1 (\2)", line) for line in kept]
    kept = [re.sub(r"^\S+ on (/proc/(keys|timer_list|\w+_\w+)) type .*", r"\1 is hidden", line) for line in kept]
    return "\n".join(sorted(line.replace(",inode64", "") for line in kept))


def without_dockers_mark(text: str) -> str:
    """Docker leaves an empty file in the root, for programs that want to know where they are."""
    return text.replace(".dockerenv\n", "")


def without_times(text: str) -> str:
    return re.sub(r"[\d.]+( ms|/[\d./]+)", "<ms>", text)


SAME = [
    # what a container prints, and its exit code
    (("busybox", "echo", "hello"), as_it_is),
    (("busybox", "sh", "-c", "exit 42"), as_it_is),
    (("busybox", "nosuch"), as_it_is),
    (("busybox", "/bin/nosuch"), as_it_is),
    (("busybox", "/etc/passwd"), as_it_is),
    (("busybox", "/etc"), as_it_is),
    (("busybox", ""), as_it_is),
    (("busybox", "sh", "-c", "kill -9 $$; kill -TERM $$; kill -9 0; echo alive"), as_it_is),
    (("busybox", "sh", "-c", "echo $0 $$ $PWD $SHLVL $PPID"), as_it_is),
    (("busybox", "printf", "%s|", "a b", "", "'\"$x", "é", "\\n"), as_it_is),
    # users
    (("busybox", "id"), as_it_is),
    (("-u", "1000", "busybox", "id"), as_it_is),
    (("-u", "www-data", "busybox", "sh", "-c", "id; echo $HOME"), as_it_is),
    (("-u", "33:33", "busybox", "sh", "-c", "id; echo $HOME"), as_it_is),
    (("-u", "nobody:users", "busybox", "id"), as_it_is),
    (("-u", "1000:1001", "busybox", "id"), as_it_is),
    (("-u", "nosuch", "busybox", "id"), as_it_is),
    (("-u", "0:nosuch", "busybox", "id"), as_it_is),
    (("busybox", "cat", "/proc/self/uid_map"), as_it_is),
    (("busybox", "grep", "-E", "^(Cap|Groups|NoNewPrivs|Sig(Blk|Ign)|Umask)", "/proc/self/status"), as_it_is),
    (("-u", "33", "busybox", "grep", "-E", "^(Cap|Groups|NoNewPrivs)", "/proc/self/status"), as_it_is),
    (("--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status"), as_it_is),
    # environment and names
    (("-h", "box", "busybox", "env"), sorted_lines),
    (("-h", "box", "-e", "A=1", "-e", "B=", "-e", "C", "-e", "D=x=y z", "busybox", "env"), sorted_lines),
    (("-h", "box", "-e", "HOME=/x", "-e", "PATH=/bin", "busybox", "env"), sorted_lines),
    (("-h", "box", "-u", "33", "busybox", "env"), sorted_lines),
    (("-h", "box", "busybox", "sh", "-c", "hostname; cat /etc/hostname /proc/sys/kernel/hostname"), as_it_is),
    (("busybox", "sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME"), without_ids),
    (("-h", "box", "busybox", "cat", "/etc/resolv.conf"), as_it_is),
    # folders
    (("-w", "/new/deep", "busybox", "sh", "-c", "pwd; stat -c '%a %u:%g' ."), as_it_is),
    (("-w", "relative", "busybox", "pwd"), as_it_is),
    (("-w", "/etc/passwd", "busybox", "pwd"), as_it_is),
    (("-w", "/proc/self/fd/7", "busybox", "pwd"), as_it_is),
    (("busybox", "ls", "-a", "/"), without_dockers_mark),
    (("busybox", "stat", "-c", "%n %F %a %u:%g", "/", "/proc", "/sys", "/dev", "/dev/shm", "/etc", "/tmp"), as_it_is),
    (("--read-only", "busybox", "touch", "/x"), as_it_is),
    (("--read-only", "busybox", "sh", "-c", "touch /dev/shm/x && echo ok"), as_it_is),
    (("--read-only", "-w", "/srv/new", "busybox", "pwd"), as_it_is),
    # walls
    (("busybox", "mount"), own_mounts),
    (("--read-only", "busybox", "mount"), own_mounts),
    (("busybox", "sh", "-c", "cd /dev; stat -c '%n %F %a %u:%g %t,%T' *; ls -l | grep -o '[a-z]* -> .*'"), as_it_is),
    (("busybox", "sh", "-c", "cat /proc/keys /proc/timer_list; ls -A /proc/acpi /sys/firmware"), as_it_is),
    (("busybox", "sh", "-c", "(: >>/proc/sys/kernel/hostname) 2>&1; mkdir /sys/x 2>&1"), as_it_is),
    (("busybox", "sh", "-c", "mknod /x c 1 3 && echo made; chroot / echo in"), as_it_is),
    (("busybox", "sh", "-c", "unshare -m true; hostname new"), as_it_is),
    (("busybox", "date", "-s", "2020-01-01"), as_it_is),
    (("busybox", "ip", "-o", "-4", "addr"), as_it_is),  # Docker's have no IPv6 without a network that has it
    (("busybox", "ip", "-o", "link"), as_it_is),
    (("busybox", "ping", "-c", "1", "127.0.0.1"), without_times),
    (("busybox", "ps", "-o", "pid,comm"), as_it_is),
    (("busybox", "ls", "-l", "/proc/self/fd"), without_pipe_numbers),
    (("busybox", "sh", "-c", "cut -d ' ' -f 1,5,6 /proc/1/stat; cat /proc/self/oom_score_adj"), as_it_is),
    # limits
    (
        ("-m", "64m", "--memory-swap", "64m", "busybox", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"),
        as_it_is,
    ),
    (
        ("-m", "16m", "--memory-swap", "16m", "busybox", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"),
        as_it_is,
    ),
    (("--cpuset-cpus", "0", "busybox", "nproc"), as_it_is),
    (("--pids-limit", "5", "busybox", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 9 & done; echo all"), as_it_is),
    (("-m", "4m", "busybox", "true"), as_it_is),
    (("--memory", "abc", "busybox", "true"), as_it_is),
    (("--memory-swap", "64m", "busybox", "true"), as_it_is),
    (("--cpus", "100000", "busybox", "true"), as_it_is),
    (("--cpu-shares", "1", "busybox", "true"), as_it_is),
    (("--cpuset-cpus", "999", "busybox", "true"), as_it_is),
    (("--pids-limit", "abc", "busybox", "true"), as_it_is),
    # command lines
    (("--entrypoint", "echo", "busybox", "hi"), as_it_is),
    (("--entrypoint", "", "busybox", "echo", "hi"), as_it_is),
    (("--entrypoint", "", "busybox"), as_it_is),
    (("--name", "a", "busybox", "true"), as_it_is),
    (("--name", "a b", "busybox", "true"), as_it_is),
    (("--nosuch", "busybox", "true"), as_it_is),
    (("-e", "=x", "busybox", "true"), as_it_is),
    (("nosuch", "true"), as_it_is),
    (("UPPER", "true"), as_it_is),
    (("-it", "busybox", "true"), as_it_is),
    ((), as_it_is),
    (("-d", "busybox", "true"), without_ids),
]


def ours(cli: CommandLine, *words: str, data: bytes = b"") -> tuple[int, str]:
    done = cli(*words, input=data)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(("words", "normal"), SAME, ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_run(cli, docker, words, normal):
    theirs = docker("run", "--rm", "--network", "none", *words)
    own = ours(cli, "run", "--rm", "--network", "none", *words)
    assert (own[0], normal(own[1])) == (theirs[0], normal(theirs[1]))


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("-i", "busybox", "cat"), bytes(range(256)) * 100),
        (("busybox", "cat"), b"not passed on"),
        (("-i", "busybox"), b"echo $0 $((6 * 7)); exit 3\n"),
        (("-i", "busybox", "head", "-c", "3"), bytes(1 << 20)),
    ],
)
def test_input(cli, docker, words, data):
    theirs = docker("run", "--rm", "--network", "none", *words, input=data)
    assert ours(cli, "run", "--rm", "--network", "none", *words, data=data) == theirs


@pytest.mark.parametrize(
    "words",
    [
        ("nosuch",),
        ("ps", "extra"),
        ("ps", "--nosuch"),
        ("logs",),
        ("logs", "nosuch"),
        ("logs", "one", "two"),
        ("stop",),
        ("stop", "nosuch"),
        ("stop", "-t", "abc", "x"),
        ("kill",),
        ("kill", "nosuch"),
        ("rm",),
        ("rm", "nosuch"),
        ("inspect",),
        ("inspect", "nosuch"),
        ("exec",),
        ("exec", "nosuch"),
        ("exec", "nosuch", "true"),
        ("rmi",),
        ("rmi", "nosuch"),
        ("images", "-q", "nosuch"),
    ],
    ids=" ".join,
)
def test_other_verbs(cli, docker, words):
    assert ours(cli, *words) == docker(*words)


# ── a container's life ───────────────────────────────────────────────────────────────────────────────────────────────


class Step(NamedTuple):
    """A command in a container's life, and what of Docker's answer counts: its exit code alone where "code"."""

    words: tuple[str, ...]
    counts: str = "all"


TRAPPED = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
LIFE = [
    Step(("run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", TRAPPED), "code"),
    Step(("run", "--network", "none", "--name", "box", "busybox", "true")),
    Step(("exec", "box", "true")),
    Step(("exec", "box", "sh", "-c", "exit 9")),
    # Docker's daemon prints its own error to the container's standard output here
    Step(("exec", "box", "/etc/passwd"), "code"),
    Step(("exec", "box", "/etc"), "code"),
    Step(("exec", "-w", "/nosuch", "box", "pwd"), "code"),
    Step(("exec", "-w", "relative", "box", "pwd"), "code"),
    Step(("exec", "-u", "nosuch", "box", "id"), "code"),
    Step(("exec", "-w", "/tmp", "-e", "A=1", "box", "sh", "-c", "pwd; echo $A")),
    Step(("exec", "-u", "www-data", "box", "sh", "-c", "id; echo $HOME")),
    Step(("exec", "box", "sh", "-c", "kill -9 $$")),
    Step(("exec", "box", "sh", "-c", "kill -TERM $$")),
    Step(("exec", "box", "sh", "-c", "kill -9 0")),
    Step(("exec", "-it", "box", "true")),
    Step(("exec", "box", "grep", "-E", "^(Cap|Groups|Sig(Blk|Ign)|Umask)", "/proc/self/status")),
    Step(("exec", "-u", "33", "box", "grep", "-E", "^(Cap|Groups)", "/proc/self/status")),
    Step(("exec", "box", "cat", "/proc/1/comm")),
    Step(("logs", "box")),
    Step(("logs", "--tail", "1", "box")),
    Step(("rm", "box")),
    Step(("kill", "-s", "NOSUCH", "box")),
    Step(("stop", "box")),
    Step(("kill", "box")),
    Step(("stop", "box")),
    Step(("exec", "box", "true")),
    Step(("logs", "-f", "box")),
    Step(("ps", "-q")),
    Step(("rm", "box")),
    Step(("rm", "box")),
    Step(("ps", "-aq")),
    Step(("run", "-d", "--network", "none", "--name", "deaf", "busybox", "sleep", "1000"), "code"),
    Step(("stop", "-t", "1", "deaf")),
    Step(("rm", "-f", "deaf")),
]


@pytest.fixture
def both(cli, docker):
    """The two engines, and their containers removed when the test is over."""
    yield docker, lambda *words: ours(cli, *words)
    docker("rm", "-f", "box", "deaf")


def test_a_life(both):
    docker, own = both
    for step in LIFE:
        if step.words[:2] == ("logs", "box"):
            for engine in both:
                eventually(lambda engine=engine: "up\n" in engine("logs", "box")[1], "it is up")
        expected, seen = docker(*step.words), own(*step.words)
        assert seen[0] == expected[0], step.words
        if step.counts == "all":
            assert seen[1] == expected[1], step.words


def exit_code_of(docker: Docker, name: str) -> int:
    return int(docker("inspect", "-f", "{{.State.ExitCode}}", name)[1])


LOOP = "; >/up; while :; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("script", "verb"),
    [
        ("trap 'exit 7' TERM" + LOOP, ("stop",)),
        ("trap 'exit 7' TERM" + LOOP, ("kill", "-s", "TERM")),
        ("trap 'exit 8' HUP" + LOOP, ("kill", "-s", "HUP")),
        (":" + LOOP, ("kill",)),
        (">/up; exit 5", ()),
    ],
)
def test_the_exit_code_that_stays(cli, both, script, verb):
    words = ("run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", script)
    for engine in both:
        assert engine(*words)[0] == 0
        if verb:
            eventually(lambda engine=engine: engine("exec", "box", "test", "-e", "/up")[0] == 0, "the trap is set")
            assert engine(*verb, "box") == (0, "box\n")
        eventually(lambda engine=engine: engine("ps", "-q")[1] == "", "it has ended")
    expected = both[0]("inspect", "-f", "{{.State.ExitCode}}", "box")[1]
    assert cli.inspect("box")["State"]["ExitCode"] == int(expected)


def test_inspect_has_the_same_shape(both):
    """What is in ours is in Docker's, and of the same kind."""
    words = ("run", "-d", "--network", "none", "--name", "box", "-m", "64m", "-h", "host", "busybox", "sleep", "1000")
    for engine in both:
        engine(*words)
    (theirs,), (own,) = (json.loads(engine("inspect", "box")[1]) for engine in both)
    differences = []

    def compare(path: str, left: object, right: object) -> None:
        if isinstance(left, dict) and isinstance(right, dict):
            for key, value in left.items():
                if key not in right:
                    differences.append(f"{path}.{key} isn't Docker's")
                else:
                    compare(f"{path}.{key}", value, right[key])
        elif right is not None and left is not None and type(left) is not type(right):
            differences.append(f"{path}: {left!r} and {right!r}")

    compare("", own, theirs)
    assert differences == []
    for part, key in (("Config", "Hostname"), ("Config", "Image"), ("HostConfig", "Memory"), ("State", "Status")):
        assert own[part][key] == theirs[part][key], key
    for key in ("Path", "Args", "Name"):
        assert own[key] == theirs[key], key


# ── with a terminal ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "script",
    [
        "tty; for fd in 0 1 2; do test -t $fd && echo $fd; done",
        "env | sort; exit 3",
        "stat -c '%n %a %u:%g %t' /dev/console $(tty); ls /dev/pts",
        "stty -g",
        "cut -d ' ' -f 1,5,6,8 /proc/1/stat",
    ],
)
def test_terminals(cli, docker, script):
    words = ("run", "--rm", "-it", "--network", "none", "-h", "box", "busybox", "sh", "-c", script)
    screens, codes = [], []
    for command, environment in ((cli.command, cli.environment()), (docker.command, docker.environment)):
        with Terminal([*command, *words], env=environment) as terminal:
            codes.append(terminal.wait())
            screens.append(terminal.screen)
    assert screens[0] == screens[1]
    assert codes[0] == codes[1]


def test_docker_was_there(docker):
    """The table above is worth something only if its other side worked."""
    assert docker("run", "--rm", "--network", "none", "busybox", "echo", "really") == (0, "really\n")
    assert len(SAME) >= 30
    assert SECONDS < PATIENCE
