"""What we write and do, held against runc, crun and Docker: the bundle as it is, and what the same commands show."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

from minicontainer.lab.bench.docker import DockerDaemon

pytestmark = pytest.mark.kernel

# What a process sees of its container: users, capabilities, name, environment, mounts, devices, limits.
SCRIPT = """
id; hostname; pwd; umask; env | sort; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status
cut -d' ' -f5,6 /proc/self/mountinfo | sort; ls -l /dev | awk '{print $1, $NF}'; ls /proc/self/fd | wc -l
ls /sys/class/net; cat /proc/sys/kernel/hostname; cat /etc/hostname; echo $$; ps | wc -l
"""


def run_bundle(tool: str, bundle: Path) -> str:
    """What a bundle's process prints under another runtime; the overlay is mounted in a namespace that ends with it."""
    mount = "mount -t overlay -o lowerdir=$LOWER,upperdir=upper,workdir=work overlay merged"
    unified = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"  # crun refuses both
    script = f"cd {bundle} && {mount} && {unified} && exec {tool} run peer-{uuid.uuid4().hex[:8]}"
    state = json.loads((bundle / "state.json").read_bytes())
    lower = ":".join(str(bundle.parents[1] / "layers" / name) for name in state["layers"])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LOWER": lower},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def comparable(text: str) -> list[str]:
    """Without each runtime's own choices: the hierarchies shown, how a file is masked, a link to what isn't there."""
    return [
        line
        for line in text.splitlines()
        if not line.startswith(("/sys/fs/cgroup", "/proc/", "/sys/firmware", "/sys/devices"))
        and not line.endswith("/proc/kcore")
    ]


@pytest.mark.parametrize("tool", [pytest.param(name, marks=pytest.mark.peer(name)) for name in ("runc", "crun")])
@pytest.mark.parametrize("options", [(), ("--user", "1000:1001", "--workdir", "/srv", "--hostname", "box")], ids=str)
def test_a_bundle_runs_under_another_runtime_with_the_same_result(cli, tool, options):
    name = f"peer-{tool}"
    ours = cli.ok("run", "--name", name, *options, "busybox", "sh", "-c", SCRIPT)
    bundle = cli.folder(cli.inspect(name)["Id"])
    shutil.rmtree(bundle / "upper")
    (bundle / "upper").mkdir()
    theirs = run_bundle(tool, bundle)
    assert comparable(theirs) == comparable(ours)


CASES = [
    ["true"],
    ["false"],
    ["sh", "-c", "exit 7"],
    ["sh", "-c", "kill -TERM $$; echo still here"],
    ["sh", "-c", "sleep 9 & kill -9 $!; wait $!"],
    ["echo", "hello", "world"],
    ["echo", ""],
    ["nosuch"],
    ["/nosuch"],
    ["/etc"],
    ["/etc/passwd"],
    [""],
    ["id"],
    ["whoami"],
    ["pwd"],
    ["env"],
    ["sh", "-c", "umask; ulimit -c"],
    ["sh", "-c", "echo $$; ps -o pid,comm"],
    ["ls", "/"],
    ["ls", "-1", "/dev"],
    ["ls", "/sys/class/net"],
    ["sh", "-c", "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status"],
    ["cat", "/proc/kcore"],
    ["cat", "/proc/keys", "/proc/timer_list"],
    ["sh", "-c", "ls /proc/acpi /sys/firmware | wc -l"],
    ["sh", "-c", "echo 1 > /proc/sys/kernel/panic"],
    ["sh", "-c", "echo b > /proc/sysrq-trigger"],
    ["sh", "-c", "mkdir /sys/x"],
    ["mount", "-t", "tmpfs", "none", "/tmp"],
    ["mknod", "/tmp/null", "c", "1", "3"],
    ["sh", "-c", "chown 5:6 /tmp && stat -c %u:%g /tmp"],
    ["hostname", "other"],
    ["sh", "-c", "df -h /dev/shm | tail -n 1 | awk '{print $2}'"],
    ["sh", "-c", "readlink /dev/fd /dev/ptmx /dev/stdin"],
    ["sh", "-c", "ls /proc/self/fd | wc -l"],
    ["sh", "-c", "cat /etc/hosts | head -n 2"],
    ["sh", "-c", "ping -c 1 -W 1 127.0.0.1 | grep packets"],
    ["-u", "1000", "id"],
    ["-u", "1000:1001", "sh", "-c", "id; touch /x"],
    ["-u", "www-data", "sh", "-c", "id; echo $HOME"],
    ["-u", "nosuch", "true"],
    ["-w", "/new/folder", "pwd"],
    ["-e", "A=1", "-e", "PATH=/bin", "env"],
    ["-h", "box", "sh", "-c", "hostname; cat /etc/hostname; env | grep HOSTNAME"],
    ["--read-only", "touch", "/x"],
    ["--entrypoint", "echo", "-n", "entry"],
    ["--security-opt", "no-new-privileges", "grep", "NoNewPrivs", "/proc/self/status"],
    ["--memory", "64m", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"],
    ["--pids-limit", "50", "cat", "/sys/fs/cgroup/pids/pids.max"],
    ["--cpus", "0.5", "cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"],
    ["--memory", "1m", "true"],
    ["--cpus", "1000", "true"],
]
FLAGS = {"-u", "-w", "-e", "-h", "--entrypoint", "--security-opt", "--memory", "--pids-limit", "--cpus", "--read-only"}


def command_line(words: list[str]) -> list[str]:
    """A case with the image put where it belongs: behind the options."""
    options: list[str] = []
    rest = list(words)
    while rest and rest[0] in FLAGS:
        options.append(rest.pop(0))
        if options[-1] != "--read-only":
            options.append(rest.pop(0))
    return ["run", "--rm", "--network", "none", *options, "busybox", *rest]


@pytest.fixture(scope="module")
def docker(busybox):
    """Docker's own command and daemon, with the rootfs of our busybox as an image."""
    client, program = shutil.which("docker", path="/usr/bin:/bin"), shutil.which("dockerd")
    if not client or not program:
        pytest.skip("docker.io is not installed (./lab peers installs it)")
    (layer,) = [path for path in (Path(busybox) / "layers").iterdir() if path.is_dir()]
    folder = tempfile.mkdtemp()
    with DockerDaemon(folder, client, program) as daemon:
        daemon.load(str(layer), "busybox")
        yield daemon
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.peer("dockerd")
@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_the_same_command_gives_the_same_as_docker(cli, docker, words):
    ours = cli(*command_line(words))
    theirs = docker._docker(*command_line(words))
    assert ours.returncode == theirs.returncode, (ours.stderr, theirs.stderr)
    assert normal(ours.stdout) == normal(theirs.stdout)


def normal(text: str) -> list[str]:
    """Lines without what differs from container to container: its ID as host name, times, and a pid or two of ps."""
    lines = []
    for line in text.splitlines():
        word = line.removeprefix("HOSTNAME=")
        is_id = len(word) == 12 and set(word) <= set("0123456789abcdef")
        lines.append(line.replace(word, "ID") if is_id else line)
    return sorted(lines)
