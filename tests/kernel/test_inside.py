"""What a process inside sees, by default: what Docker's containers see, and nothing more of the host."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from real_engine import eventually, groups, refusal

CAPABILITIES = "00000000a80425fb"  # Docker's fourteen
SAFE = "nosuid,nodev,noexec"
MOUNTS = {
    # mount point: (file system, options of the mount, options of the file system that Docker sets)
    "/": ("overlay", "rw,relatime", ""),
    "/proc": ("proc", f"rw,{SAFE},relatime", "rw"),
    "/dev": ("tmpfs", "rw,nosuid", "rw,size=65536k,mode=755"),
    "/dev/pts": ("devpts", "rw,nosuid,noexec,relatime", "rw,gid=5,mode=620,ptmxmode=666"),
    "/sys": ("sysfs", f"ro,{SAFE},relatime", "ro"),
    "/dev/mqueue": ("mqueue", f"rw,{SAFE},relatime", "rw"),
    "/dev/shm": ("tmpfs", f"rw,{SAFE},relatime", "rw,size=65536k"),
    "/etc/resolv.conf": ("", "rw,relatime", ""),
    "/etc/hostname": ("", "rw,relatime", ""),
    "/etc/hosts": ("", "rw,relatime", ""),
}
MASKED = (
    "/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats"
    " /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap"
).split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


@pytest.fixture(params=["run", "exec"])
def inside(request, cli):
    """A function that runs a command in a container, and returns its output: a first process, or a later one."""

    def run(*command: str, **options) -> str:
        if request.param == "run":
            return cli.ok("run", "--rm", "busybox", *command, **options)
        return cli.ok("exec", cli.container(), *command, **options)

    return run


def test_the_mount_table(cli):
    mounts = {}
    for line in cli.ok("run", "--rm", "busybox", "cat", "/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        assert "shared:" not in left, f"a mount that spreads: {line}"
        mounts[fields[4]] = (kind[0], fields[5], kind[2])
    for point, (kind, options, details) in MOUNTS.items():
        seen = mounts.pop(point)
        assert seen[1] == options, point
        assert kind in ("", seen[0]), point
        assert details in ("", seen[2].removesuffix(",inode64")), point
    hidden = [*MASKED, *READ_ONLY]
    rest = [point for point in mounts if point not in hidden and not point.startswith("/sys/fs/cgroup")]
    assert rest == [], "more than Docker mounts"
    for point in mounts:
        if point.startswith("/sys/fs/cgroup"):
            assert mounts[point][1] in (f"ro,{SAFE}", f"ro,{SAFE},relatime"), point


def test_devices(cli):
    script = "cd /dev; for name in *; do stat -c '%n %F %a %t,%T' $name; readlink $name; done; ls pts shm mqueue"
    assert cli.ok("run", "--rm", "busybox", "sh", "-c", script, umask=0o077).splitlines() == [
        *(["core symbolic link 777 0,0", "/proc/kcore"] if os.path.exists("/proc/kcore") else []),
        "fd symbolic link 777 0,0", "/proc/self/fd",
        "full character special file 666 1,7",
        "mqueue directory 1777 0,0",
        "null character special file 666 1,3",
        "ptmx symbolic link 777 0,0", "pts/ptmx",
        "pts directory 755 0,0",
        "random character special file 666 1,8",
        "shm directory 1777 0,0",
        "stderr symbolic link 777 0,0", "/proc/self/fd/2",
        "stdin symbolic link 777 0,0", "/proc/self/fd/0",
        "stdout symbolic link 777 0,0", "/proc/self/fd/1",
        "tty character special file 666 5,0",
        "urandom character special file 666 1,9",
        "zero character special file 666 1,5",
        "mqueue:", "", "pts:", "ptmx", "", "shm:",
    ]  # fmt: skip


def test_device_files_work(cli):
    script = "head -c 3 /dev/zero | wc -c; echo x >/dev/null; head -c 9 /dev/urandom | wc -c; echo x >/dev/full"
    done = cli("run", "--rm", "busybox", "sh", "-c", script)
    assert done.stdout == "3\n9\n"
    assert "No space left on device" in done.stderr


@pytest.mark.xfail(
    reason="nothing keeps a container from a device that it has made a file of (config-linux.md#devices)"
)
def test_other_devices_can_not_be_opened(cli):
    # of the host's, whichever there are; a disk would be no better
    here = [path for path in ("/dev/fuse", "/dev/hwrng", "/dev/kmsg", "/dev/rtc0") if os.path.exists(path)]
    if not here:
        pytest.skip("this machine has no device to try it on")
    numbers = [(os.major(os.stat(path).st_rdev), os.minor(os.stat(path).st_rdev)) for path in here]
    tries = [f"mknod /x{minor} c {major} {minor} && : </x{minor} && echo open" for major, minor in numbers]
    assert cli("run", "--rm", "busybox", "sh", "-c", "; ".join(tries)).stdout == ""


def test_masked_paths_are_empty(inside):
    here = [path for path in MASKED if os.path.lexists(path)]
    assert here
    look = 'for path in "$@"; do if [ -d "$path" ]; then ls -A "$path"; else cat "$path"; fi; done; echo seen'
    assert inside("sh", "-c", look, "sh", *here) == "seen\n"


def test_read_only_paths_can_not_be_written(inside):
    files = [
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_seqnum",
    ]
    here = [path for path in files if os.path.exists(path)]
    # opened to append, so that nothing happens where one can be
    script = 'for file in "$@"; do (: >>"$file") 2>&1; done; mkdir /sys/x 2>&1; true'
    lines = inside("sh", "-c", script, "sh", *here).splitlines()
    assert len(lines) == len(here) + 1
    assert [line for line in lines if not line.endswith("Read-only file system")] == []


def test_capabilities(inside):
    found = dict(re.findall(r"Cap(\w+):\t(\w+)", inside("cat", "/proc/self/status")))
    none = "0" * 16
    assert found == {"Inh": none, "Prm": CAPABILITIES, "Eff": CAPABILITIES, "Bnd": CAPABILITIES, "Amb": none}


def test_its_own_processes_and_no_others(cli):
    assert cli.ok("run", "--rm", "busybox", "sh", "-c", "echo $$; ls -d /proc/[0-9]*; true") == "1\n/proc/1\n"


def test_every_namespace_but_the_users_is_its_own(inside):
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts", "user")
    found = inside("sh", "-c", "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)).split()
    same = [kind for kind, link in zip(kinds, found, strict=True) if link == os.readlink(f"/proc/self/ns/{kind}")]
    assert same == ["user"]


def test_cgroups_begin_at_its_own(inside):
    assert {line.rpartition(":")[2] for line in inside("cat", "/proc/self/cgroup").splitlines()} == {"/"}


def test_the_first_and_the_later_process_live_in_the_same_walls(cli):
    look = (
        "for kind in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$kind; done; cat /proc/self/mountinfo"
    )
    identifier = cli.container("sh", "-c", f"({look}) >/first; sleep 1000")
    later = cli.ok("exec", identifier, "sh", "-c", f"while [ ! -s /first ]; do :; done; {look}")
    assert later == cli.ok("exec", identifier, "cat", "/first")


# ── what crosses the wall by accident ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def holes():
    """Eighteen inheritable descriptors, as a careless parent may have, each of a folder of the host."""
    opened = []
    for number in range(3, 21):
        # not those that pytest itself uses: 30 and up, passed on by these numbers
        descriptor = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
        os.dup2(descriptor, 60 + number, inheritable=True)
        os.close(descriptor)
        opened.append(60 + number)
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def through(holes: list[int]) -> tuple[str, ...]:
    """A program that starts another with descriptors 3 to 20 open."""
    moves = " ".join(f"{number}<&{hole}" for number, hole in enumerate(holes, start=3))
    return ("bash", "-c", f'exec {moves}; exec "$@"', "bash")


def test_no_descriptor_of_the_host_is_open_inside(cli, holes):
    options = {"before": through(holes), "pass_fds": holes}
    identifier = cli.ok("run", "-d", "busybox", "sleep", "1000", **options).strip()
    cli.start("exec", identifier, "sleep", "2000", **options)
    sleeping = eventually(lambda: both_sleep(groups(identifier)[0]), "two processes that sleep")
    for pid in sleeping:
        seen = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        assert sorted(seen) == ["0", "1", "2"]
        assert seen["0"] == "/dev/null"
        assert seen["1"].startswith("pipe:")
        assert seen["2"].startswith("pipe:")


def both_sleep(group: Path) -> list[str]:
    """The processes of a group, once there are two and both have become what they were to be."""
    pids = (group / "cgroup.procs").read_text().split()
    ready = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "sleep\n"]
    return ready if len(ready) == 2 else []


def test_what_the_caller_ignores_or_holds_back_reaches_the_process(cli):
    deaf = ("env", "--ignore-signal=HUP,PIPE,INT,USR1", "--block-signal=USR2,TERM")
    words = ("grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status")
    expected = "".join(f"Sig{name}:\t{'0' * 16}\n" for name in ("Blk", "Ign", "Cgt"))
    assert cli.ok("run", "--rm", "busybox", *words, before=deaf) == expected
    assert cli.ok("exec", cli.container(), *words, before=deaf) == expected


def test_a_broken_pipe_ends_a_program_inside(cli):
    script = "(yes; echo $? >/code) | head -n 1; cat /code"
    assert cli.ok("run", "--rm", "busybox", "sh", "-c", script) == f"y\n{128 + 13}\n"


def test_umask(inside):
    assert inside("sh", "-c", "umask; touch /tmp/x; stat -c %a /tmp/x", umask=0o077) == "0022\n644\n"


# ── attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("link", ["/proc/self/fd/{}", "/proc/1/fd/{}", "/proc/self/cwd", "/proc/self/root/../{}"])
def test_a_working_directory_never_leads_outside(cli, holes, link):
    """CVE-2024-21626: a descriptor of the host that is still open becomes the working directory."""
    places = [link.format(number) for number in (range(3, 12) if "fd" in link else (7,))]
    for place in places:
        words = ("run", "--rm", "-w", place, "busybox", "sh", "-c", "pwd; ls -d ../../../../../../*")
        done = cli(*words, before=through(holes), pass_fds=holes)
        if done.returncode == 0:  # then it is a folder of the container's own
            assert "/.dockerenv /etc" not in done.stdout
            assert "lost+found" not in done.stdout
            assert "boot" not in done.stdout
        else:
            refusal(done, 125)


def test_an_images_or_a_containers_link_never_leads_outside(own_cli, holes):
    cli = own_cli
    options = {"before": through(holes), "pass_fds": holes}

    def plant(tree: Path) -> None:
        for number in range(3, 12):
            (tree / f"link{number}").symlink_to(f"/proc/self/fd/{number}")

    cli.derive("links:latest", plant, WorkingDir="/link7")
    refusal(cli("run", "--rm", "links", "pwd", **options), 125)
    identifier = cli.ok("run", "-d", "-w", "/", "links", "sleep", "1000", **options).strip()
    for number in range(3, 12):
        done = cli("exec", "-w", f"/link{number}", identifier, "sh", "-c", "pwd; ls ../../../..", **options)
        assert done.returncode != 0
        assert done.stdout == ""


def test_what_an_image_puts_where_the_engine_mounts_is_not_followed_outside(own_cli, tmp_path):
    """CVE-2019-16884, CVE-2021-30465 and their like: mount targets that are links to the host."""
    cli = own_cli
    victims = [tmp_path / name for name in ("hosts", "resolv.conf", "hostname")]
    for victim in victims:
        victim.write_text("untouched\n")

    def plant(tree: Path) -> None:
        (tree / "etc").mkdir()
        for victim in victims:
            (tree / "etc" / victim.name).symlink_to("../" * 20 + str(victim).lstrip("/"))

    cli.derive("trap:latest", plant)
    done = cli("run", "--rm", "-h", "box", "trap", "sh", "-c", f"echo gotcha >{victims[0]}; cat /etc/hostname")
    assert (done.returncode, done.stdout) in ((0, "box\n"), (125, ""))
    assert [victim.read_text() for victim in victims] == ["untouched\n"] * 3


def test_proc_that_is_a_link_does_not_unmask_anything(own_cli):
    cli = own_cli

    def plant(tree: Path) -> None:
        (tree / "proc").symlink_to("tmp")

    cli.derive("trap:latest", plant)
    done = cli("run", "--rm", "trap", "sh", "-c", "cat /tmp/keys /proc/keys; (: >>/tmp/sys/kernel/hostname) 2>&1")
    if done.returncode == 125:
        refusal(done, 125)
    else:
        assert done.stdout.count("Read-only file system") == 1
        assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("user", ["0", "1000"])
def test_who_enters_can_not_be_looked_into(cli, user):
    """CVE-2019-5736: /proc/PID/exe of who enters a container, or /proc/PID/root, is a way to the host."""
    script = (
        "while [ ! -e /tmp/stop ]; do\n"
        "    for pid in /proc/[0-9]*; do readlink $pid/exe; ls $pid/root/home/.. | head -n 0; done\n"
        "done >/tmp/seen 2>/dev/null; exec sleep 1000"
    )
    identifier = cli.container("sh", "-c", script, options=("-u", user))
    for _ in range(8):
        cli("exec", "-u", user, identifier, "true")
    seen = cli.ok("exec", identifier, "sh", "-c", "touch /tmp/stop; sort -u /tmp/seen")
    assert seen.split() == ["/bin/busybox"]
