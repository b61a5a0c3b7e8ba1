"""What `run --dry-run` prints is typed into a root shell, and what then runs is the container that `run` makes."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from real_engine import eventually, groups, mounts_with
from terminals import Terminal

from minicontainer.isolation.cgroups import cgroup_of, detect
from minicontainer.paths import Paths

HIERARCHIES = detect(Paths(state="/nonexistent"))

PROMPTS = r"(?:typed> |bash-[0-9.]+[#$] )$"
FILES = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max", "pids.max")
FILES += ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max", "cpu.shares", "cpu.weight")
LOOK = f"""
cat /proc/self/mountinfo
grep -E '^(Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp|Umask|Sig(Blk|Ign)):' /proc/1/status
cat /proc/self/uid_map /proc/self/cgroup
for name in {" ".join(FILES)}; do for file in /sys/fs/cgroup/$name /sys/fs/cgroup/*/$name; do
    [ -e $file ] && echo $file $(cat $file); done; done
hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf
tr '\\0' '\\n' </proc/1/environ | sort
echo $$ $(readlink /proc/1/cwd) $(cat /proc/1/comm)
cd /dev; stat -c '%n %F %a %u:%g %t,%T' . * pts/ptmx shm mqueue
ip -o link | cut -d ' ' -f 2,3
echo /proc/[0-9]*
touch /made 2>&1 && stat -c '%a %u:%g' /made
stat -c '%n %a %u:%g' / /etc /proc /sys /tmp
for path in /proc/keys /proc/timer_list; do cat $path 2>&1; done; ls -A /proc/acpi /sys/firmware 2>&1
echo x 2>&1 >/proc/sys/kernel/hostname
echo finished
"""


def normal(text: str, identifier: str) -> list[str]:
    """What a container prints of itself, without what differs between two containers: IDs, numbers of mounts."""
    lines = []
    for line in text.replace("\r\n", "\n").replace(identifier, "<ID>").replace(identifier[:12], "<id>").splitlines():
        lines.append(re.sub(r"^\d+ \d+ \d+:\d+ ", "", line) if " - " in line else line)
    return lines


def type_script(cli, script: str, home: str) -> str:
    """Type a script into a bash, line by line, each when the one before has been done; what the container prints."""
    environment = {"PATH": os.environ["PATH"], "PS1": "typed> ", "TERM": "dumb", "HOME": home, "SURPLUS": "1"}
    shell = ["bash", "--norc", "--noprofile"]
    # so wide that no line is wrapped, which would change its echo
    with Terminal(shell, env=environment, columns=8000, cwd=str(cli.state)) as terminal:
        terminal.expect(PROMPTS)
        printed = ""
        lines = script.splitlines()
        while lines:
            line = lines.pop(0)
            terminal.type(f"{line}\n")
            terminal.expect(re.escape(line) + r"\r\n")
            shown = terminal.expect(rf"(?s)(.*?)(?:{PROMPTS}|^> $)".replace("^", "(?m:^)"))
            if "finished" in shown[1]:
                printed = shown[1]
            else:
                # a bash that starts between the two roots can't tell where it stands, and says so
                rest = re.sub(r"[a-z-]+: error retrieving current directory: [^\n]*\n", "", shown[1])
                assert rest == "", f"{line!r} prints {rest!r}"
        terminal.type("exit\n")
        assert terminal.wait() == 0
    return printed


OPTIONS = {
    "defaults": (),
    "limits": ("-m", "64m", "--cpus", "0.5", "--pids-limit", "50"),
    "user": ("-u", "1000", "-w", "/srv/new", "-e", 'ODD=it\'s $HOME & "more"'),
    "strict": ("--read-only", "--security-opt", "no-new-privileges", "-h", "box"),
    "network": ("--network", "host"),
    "users": ("--userns", "private"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_typed_is_what_runs(cli, name, tmp_path):
    for program in ("unshare", "setpriv", "pivot_root"):
        assert shutil.which(program), f"{program} of util-linux is missing"
    words = (*OPTIONS[name], "busybox", "sh", "-c", LOOK.replace("\n", " ; ").replace("do ;", "do").strip(" ;"))
    script = cli.ok("run", "--dry-run", *words)
    assert cli.folders() == []
    identifier = re.search(r"^export id=([0-9a-f]{64})$", script, re.MULTILINE)[1]
    parents_before = {group for group in parents() if group.is_dir()}

    try:
        typed = type_script(cli, script, str(tmp_path))
    except BaseException:
        tidy(cli, identifier)
        raise
    assert groups(identifier) == []
    assert {group for group in parents() if group.is_dir()} <= parents_before
    assert cli.folders() == []
    assert mounts_with(identifier) == []

    real = cli.ok("run", "--name", "real", *words)
    assert typed.endswith("finished\r\n")
    shells_own = "SHLVL=0\r\n"  # bash exports it whenever it becomes another program
    assert typed.count(shells_own) == 1
    assert normal(typed.replace(shells_own, ""), identifier) == normal(real, cli.inspect("real")["Id"])
    cli.ok("rm", "real")
    eventually(lambda: not cli.folders(), "the real one is gone, too")


def parents() -> list[Path]:
    """Where the groups of containers lie, in each hierarchy."""
    return [Path(tree.parent) for tree in HIERARCHIES.trees]


def tidy(cli, identifier: str) -> None:
    """After a script that went wrong: end what it has started, and remove what it has made."""
    cgroup = cgroup_of(HIERARCHIES, identifier)
    cgroup.kill_all()
    cgroup.remove()
    shutil.rmtree(cli.folder(identifier), ignore_errors=True)


def test_nothing_is_made_or_started(cli):
    before = sorted(str(path) for path in cli.state.rglob("*"))
    script = cli.ok("run", "--dry-run", "--name", "box", "-d", "busybox", "touch", "/x")
    assert sorted(str(path) for path in cli.state.rglob("*")) == before
    for line in script.splitlines():
        assert "\x00" not in line
    assert script.startswith("# Type this")


def test_a_plan_that_can_not_be_is_refused_as_by_run(cli):
    for words in (("nosuch", "true"), ("-m", "1m", "busybox", "true"), ("--network", "odd", "busybox", "true")):
        sentence = cli.fails("run", "--dry-run", *words, code=125)
        assert sentence == cli.fails("run", *words, code=125)
