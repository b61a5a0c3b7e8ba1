"""`minicontainer run`: output, exit codes, input, and every option that changes what the process gets."""

from __future__ import annotations

import os
import re
import signal

import pytest
from real_engine import eventually, groups

from minicontainer.isolation.cgroups import detect
from minicontainer.paths import Paths

HIERARCHIES = detect(Paths(state="/nonexistent"))
cgroup2 = pytest.mark.cgroup2


def limit(controller: str, v1: str, v2: str) -> str:
    """Where a container sees a file of its own control group: v1's name and v2's differ."""
    tree = HIERARCHIES.of(controller)
    if tree is None:
        pytest.skip(f"the {controller} controller is not here")
    return f"/sys/fs/cgroup/{v2}" if tree.version == 2 else f"/sys/fs/cgroup/{','.join(tree.controllers)}/{v1}"


# ── output and exit codes ────────────────────────────────────────────────────────────────────────────────────────────


@cgroup2
def test_prints_what_the_command_prints(cli):
    assert cli.ok("run", "--rm", "busybox", "echo", "hello") == "hello\n"


def test_the_images_own_command_is_the_default(cli):
    assert cli.ok("run", "-i", "--rm", "busybox", input="echo $0 $((6 * 7))\n") == "sh 42\n"


def test_the_two_streams_stay_apart(cli):
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_bytes_come_out_as_they_went_in(cli):
    everything = bytes(range(256))
    done = cli("run", "-i", "--rm", "busybox", "cat", input=everything)
    assert done.stdout.encode("utf-8", "surrogateescape") == everything


@cgroup2
@pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
def test_the_exit_code_is_the_commands(cli, code):
    assert cli("run", "--rm", "busybox", "sh", "-c", f"exit {code}").returncode == code


def test_a_killed_process_ends_with_128_and_its_signal(cli):
    attached = cli.start("run", "--rm", "--name", "victim", "busybox", "sh", "-c", "echo up; sleep 1000")
    assert attached.stdout.readline() == b"up\n"
    cli.ok("kill", "victim")
    assert attached.wait(20) == 128 + signal.SIGKILL
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.parametrize("name", ["SEGV", "TERM", "INT", "KILL"])
def test_an_executed_process_ends_with_128_and_its_signal(cli, name):
    cli.container(options=("--name", "host"))
    assert cli("exec", "host", "sh", "-c", f"kill -{name} $$").returncode == 128 + signal.Signals[f"SIG{name}"]


def test_an_unknown_command_is_127(cli):
    assert cli.fails("run", "--rm", "busybox", "nosuch", code=127) == (
        'exec: "nosuch": executable file not found in $PATH'
    )
    assert cli.fails("run", "--rm", "busybox", "/bin/nosuch", code=127).startswith('exec: "/bin/nosuch"')
    assert cli.folders() == []


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc", "/dev/null"])
def test_what_cannot_be_executed_is_126(cli, path):
    assert cli.fails("run", "--rm", "busybox", path, code=126) == f'exec: "{path}": Permission denied'


def test_a_failure_of_the_engine_is_125(cli):
    cli.fails("run", "nosuch", "true", code=125)
    cli.fails("run", "--nosuch", "busybox", "true", code=125)
    cli.fails("run", code=1)


def test_much_output_arrives_whole_and_in_order(cli):
    assert cli.ok("run", "--rm", "busybox", "seq", "100000") == "".join(f"{n}\n" for n in range(1, 100001))


def test_a_reader_who_leaves_does_not_stop_the_container(cli):
    attached = cli.start("run", "--name", "talker", "busybox", "sh", "-c", "seq 200000; echo end >/done; sleep 1000")
    assert attached.stdout.readline() == b"1\n"
    attached.stdout.close()
    assert attached.wait(20) == 128 + signal.SIGPIPE
    eventually(lambda: cli("exec", "talker", "cat", "/done").stdout, "the container went on")


def test_rm_leaves_nothing(cli):
    identifier = re.fullmatch(r"[0-9a-f]{12}\n", cli.ok("run", "--rm", "busybox", "hostname"))[0].strip()
    eventually(lambda: not cli.folders(), "the container's folder goes")
    assert not any(identifier in name for name in os.listdir(cli.state / "names"))


# ── standard input ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_i_standard_input_is_empty(cli):
    assert cli.ok("run", "--rm", "busybox", "sh", "-c", "cat; readlink /proc/self/fd/0", input="text") == "/dev/null\n"


def test_a_megabyte_goes_through_a_pipe_and_ends(cli):
    data = os.urandom(1 << 20)
    done = cli("run", "-i", "--rm", "busybox", "cat", input=data)
    assert done.stdout.encode("utf-8", "surrogateescape") == data
    assert done.returncode == 0


def test_input_that_nobody_reads_is_no_error(cli):
    done = cli("run", "-i", "--rm", "busybox", "true", input=bytes(1 << 20))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_input_that_is_read_in_part_is_no_error(cli):
    script = "head -c 5; exec <&-; sleep 0.1; echo; echo end"
    done = cli("run", "-i", "--rm", "busybox", "sh", "-c", script, input=b"12345" + bytes(1 << 20))
    assert (done.returncode, done.stdout, done.stderr) == (0, "12345\nend\n", "")


def test_exec_takes_input_too(cli):
    cli.container(options=("--name", "host"))
    data = os.urandom(1 << 20)
    assert cli("exec", "-i", "host", "cat", input=data).stdout.encode("utf-8", "surrogateescape") == data


# ── environment, folder, user ────────────────────────────────────────────────────────────────────────────────────────


def environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_environment_is_the_images_and_nothing_of_the_hosts(cli):
    found = environment(cli.ok("run", "--rm", "-h", "box", "busybox", "env", env={"SECRET": "1", "LANG": "de"}))
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "box",
        "HOME": "/root",
    }


def test_environment_options(cli):
    words = ("-e", "ONE=1", "-e", "TWO=a=b c", "-e", "TAKEN", "-e", "ABSENT", "-e", "HOME=/h", "-e", "EMPTY=")
    found = environment(cli.ok("run", "--rm", *words, "busybox", "env", env={"TAKEN": "from here"}))
    assert found.items() >= {"ONE": "1", "TWO": "a=b c", "TAKEN": "from here", "HOME": "/h", "EMPTY": ""}.items()
    assert "ABSENT" not in found


def test_the_path_decides_which_command_runs(cli):
    assert cli.ok("run", "--rm", "-e", "PATH=/usr/bin:/bin", "busybox", "which", "env") == "/usr/bin/env\n"
    cli.fails("run", "--rm", "-e", "PATH=/nosuch", "busybox", "true", code=127)


def test_the_working_directory_is_made(cli):
    script = "pwd; stat -c '%a %u %g' . .."
    assert cli.ok("run", "--rm", "-w", "/srv/deep", "busybox", "sh", "-c", script, umask=0o077) == (
        "/srv/deep\n755 0 0\n755 0 0\n"
    )
    assert cli.ok("run", "--rm", "--read-only", "-w", "/srv/deep", "busybox", "pwd") == "/srv/deep\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("1000", "uid=1000 gid=0(root) groups=0(root)"),
        ("1000:1001", "uid=1000 gid=1001 groups=1001"),
        ("www-data", "uid=33(www-data) gid=33(www-data) groups=33(www-data)"),
        ("33", "uid=33(www-data) gid=33(www-data) groups=33(www-data)"),
        ("nobody:users", "uid=65534(nobody) gid=100(users) groups=100(users)"),
    ],
)
def test_users(cli, user, expected):
    # the caller's supplementary groups are no longer there
    assert cli.ok("run", "--rm", "-u", user, "busybox", "id", before=("setpriv", "--groups", "4,24")) == expected + "\n"


def test_another_user_has_no_capabilities_and_its_own_home(cli):
    script = "echo $HOME; grep -E 'Cap(Prm|Eff)' /proc/self/status; ls /; cat /etc/hosts; touch /x"
    done = cli("run", "--rm", "-u", "www-data", "busybox", "sh", "-c", script, umask=0o077)
    assert done.stdout.startswith("/var/www\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nbin\n")
    assert "localhost" in done.stdout, "a file that the engine made is unreadable"
    assert done.stderr == "touch: /x: Permission denied\n"


def test_hostname(cli):
    script = "hostname; cat /etc/hostname; echo $HOSTNAME"
    assert cli.ok("run", "--rm", "--hostname", "box.example", "busybox", "sh", "-c", script) == "box.example\n" * 3


def test_the_default_hostname_is_the_beginning_of_the_id(cli):
    identifier = cli.container("hostname")
    eventually(lambda: cli.ok("logs", identifier) == f"{identifier[:12]}\n", "the host name in the log")


def test_entrypoint(cli):
    assert cli.ok("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b\n"
    assert cli.ok("run", "--rm", "--entrypoint", "", "busybox", "echo", "a") == "a\n"
    cli.fails("run", "--rm", "--entrypoint", "", "busybox", code=125)


def test_the_words_behind_the_image_are_the_commands(cli):
    assert cli.ok("run", "--rm", "busybox", "echo", "-n", "--rm", "-it") == "--rm -it"
    assert cli.ok("run", "--rm", "busybox", "printf", "%s|", "a b", "", "'\"$x", "é", "\n") == "a b||'\"$x|é|\n|"


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@cgroup2
def test_memory_limit(cli):
    file = limit("memory", "memory.limit_in_bytes", "memory.max")
    assert cli.ok("run", "--rm", "-m", "64m", "busybox", "cat", file) == f"{64 << 20}\n"


@cgroup2
def test_the_kernel_kills_who_takes_too_much(cli):
    limit("memory", "", "")
    script = "exec dd if=/dev/zero of=/dev/shm/x bs=1M count=40"
    swapless = ("--memory", "16m", "--memory-swap", "16m")
    assert cli("run", "--name", "greedy", *swapless, "busybox", "sh", "-c", script).returncode == 137
    assert cli.inspect("greedy")["State"]["OOMKilled"] is True


def test_a_container_that_stayed_below_was_not_killed_for_memory(cli):
    cli("run", "--name", "modest", "--memory", "16m", "busybox", "sh", "-c", "kill -9 -1; exit 9")
    assert cli.inspect("modest")["State"]["OOMKilled"] is False


@cgroup2
def test_processors(cli):
    quota = limit("cpu", "cpu.cfs_quota_us", "cpu.max")
    assert cli.ok("run", "--rm", "--cpus", "0.5", "busybox", "cat", quota).split()[0] == "50000"
    shares = limit("cpu", "cpu.shares", "cpu.weight")
    assert cli.ok("run", "--rm", "--cpu-shares", "512", "busybox", "cat", shares) in ("512\n", "59\n")


def test_processors_by_number(cli):
    limit("cpuset", "", "")
    assert cli.ok("run", "--rm", "--cpuset-cpus", "0", "busybox", "nproc") == "1\n"


@cgroup2
def test_process_limit(cli):
    limit("pids", "", "")
    script = "i=0; while [ $i -lt 20 ]; do sleep 100 & i=$((i+1)); done; echo all"
    done = cli("run", "--rm", "--pids-limit", "8", "busybox", "sh", "-c", script)
    assert "can't fork" in done.stderr
    assert done.stdout == ""
    assert cli("run", "--rm", "--pids-limit", "64", "busybox", "sh", "-c", script).stdout == "all\n"
    assert cli("run", "--rm", "--pids-limit", "-1", "busybox", "sh", "-c", script).stdout == "all\n"


# ── walls that can be moved ──────────────────────────────────────────────────────────────────────────────────────────


def test_read_only_root(cli):
    script = "touch /x /etc/x; echo >>/etc/hosts; touch /dev/shm/x && echo shm; touch /dev/x && echo dev"
    done = cli("run", "--rm", "--read-only", "busybox", "sh", "-c", script)
    assert done.stdout == "shm\ndev\n"
    assert done.stderr.count("Read-only file system") == 3


def test_no_network_is_a_loopback_that_works(cli):
    script = "ip -o link | cut -d: -f2; ip -o -4 addr show lo; ping -c 1 -w 5 127.0.0.1 >/dev/null && echo pong"
    found = cli.ok("run", "--rm", "busybox", "sh", "-c", script)
    assert re.fullmatch(r" lo\n1: lo +inet 127\.0\.0\.1/8 [^\n]*\npong\n", found)
    assert cli.ok("run", "--rm", "busybox", "ip", "route") == ""


def test_the_hosts_network(cli):
    options = ("--rm", "--network", "host")
    found = cli.ok("run", *options, "busybox", "readlink", "/proc/self/ns/net").strip()
    assert found == os.readlink("/proc/self/ns/net")
    if os.path.exists("/etc/resolv.conf"):
        with open("/etc/resolv.conf") as file:
            assert cli.ok("run", *options, "busybox", "cat", "/etc/resolv.conf") == file.read()


def test_a_user_namespace(cli):
    script = "readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u; mknod /x c 1 3; echo >/dev/null && ls -l /x"
    done = cli("run", "--rm", "--userns", "private", "busybox", "sh", "-c", script)
    namespace, mapping, number = done.stdout.splitlines()
    assert namespace != os.readlink("/proc/self/ns/user")
    assert mapping.split() == ["0", "0", "1"]
    assert number == "0"
    assert "mknod: /x: Operation not permitted" in done.stderr


def test_the_hosts_control_groups_are_no_ones_toy_in_a_user_namespace(cli):
    script = (
        "for folder in $(find /sys/fs/cgroup -type d 2>/dev/null | head -n 50); do\n"
        '    mkdir "$folder/toy" 2>/dev/null && rmdir "$folder/toy" && echo "$folder"\n'
        "done"
    )
    for network in ("none", "host"):
        assert (
            cli("run", "--rm", "--userns", "private", "--network", network, "busybox", "sh", "-c", script).stdout == ""
        )


def test_no_new_privileges(cli):
    look = ("busybox", "grep", "NoNewPrivs", "/proc/self/status")
    assert cli.ok("run", "--rm", *look) == "NoNewPrivs:\t0\n"
    for word in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"):
        assert cli.ok("run", "--rm", "--security-opt", word, *look) == "NoNewPrivs:\t1\n"


@cgroup2
def test_a_container_has_a_group_only_as_long_as_it_runs(cli):
    identifier = cli.container()
    inside = groups(identifier)
    assert inside
    pid = cli.inspect(identifier)["State"]["Pid"]
    assert all(str(pid) in (group / "cgroup.procs").read_text().split() for group in inside)
    cli.ok("kill", identifier)
    eventually(lambda: not groups(identifier), "the control groups go with the process")


@cgroup2
def test_a_signal_to_its_own_process_group_stays_inside(cli):
    assert cli.ok("run", "--rm", "busybox", "sh", "-c", "kill -9 0; echo alive") == "alive\n"
    cli.container(options=("--name", "host"))
    assert cli("exec", "host", "sh", "-c", "kill -9 0").returncode == 137
    assert cli.inspect("host")["State"]["Running"] is True


def test_the_first_process_leads_a_session(cli):
    script = "cut -d ' ' -f 1,5,6 /proc/1/stat"
    assert cli.ok("run", "--rm", "busybox", "sh", "-c", script) == "1 1 1\n"
