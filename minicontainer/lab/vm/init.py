"""The guest's first process: a shell script that builds a system around the image, and runs the image's own process.

Layer: lab.vm (imports step). Pure: values in, text out.

    kernel ──▶ /init ──▶ userspace ──▶ mounts ──▶ run ──▶ the image's process ──▶ exit ──▶ power off
                           marker                marker                           marker

The script is read by a static busybox of the host's, beside the image and not in it: in the initramfs the image is the
folder /image, and images without a shell start like any other. A marker is a line on the serial console:

    @minicontainer-<tag> <event> <seconds since the kernel started> <more>

Rules: the process is described as in an OCI config.json (config.md#process) and gets what a container gets: its
arguments, environment, working directory, user, an empty standard input, and nothing else of ours in sight. It has the
serial console as its standard output and error. Kernel messages but for panics are silenced before it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...step import quote

USERSPACE, RUN, EXIT = "userspace", "run", "exit"
"""Events of markers. EXIT's rest: the exit code, and how many processes were killed because the memory was full."""
FAILED, CANNOT = "failed", "cannot"
"""The guest couldn't be set up; the image's command can't be run. Their rest says why."""


def marker(tag: str) -> str:
    """What begins a marker line."""
    return f"@minicontainer-{tag}"


APPLETS = ("hostname", "ip", "ln", "mkdir", "mount", "nsenter", "poweroff", "setsid", "usleep")
"""What the script calls: links in the initramfs's /bin."""

_INIT = """\
#!/bin/busybox sh
PATH=/bin
mark() {{ read -r up idle </proc/uptime; echo "{marker} $1 $up $2"; }}
fail() {{ mark {failed} "$1"; poweroff -f; }}
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mark {userspace}
echo 1 >/proc/sys/kernel/printk
{root}
cd /image
mkdir -p proc sys dev
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
ln -sf /proc/self/fd dev/fd
ln -sf /proc/self/fd/0 dev/stdin
ln -sf /proc/self/fd/1 dev/stdout
ln -sf /proc/self/fd/2 dev/stderr
hostname {hostname}
ip link set lo up
mount --move . / || fail "the image can't become the root"
mark {run}
setsid nsenter -F -r. /proc/1/root/bin/busybox sh /proc/1/root/workload </dev/null >/dev/{console} 2>&1
code=$?
while read -r name value; do [ "$name" = oom_kill ] && killed=$value; done </proc/vmstat
mark {exit} "$code ${{killed:-0}}"
poweroff -f
"""

# The image is in the initramfs: only a mount point can become the root.
_ROOT_IN_MEMORY = "mount --bind /image /image"
# The kernel finds disks while it already runs /init.
_ROOT_ON_DISK = """\
tries=0
until [ -b {disk} ] || [ $tries = 600 ]; do usleep 5000; tries=$((tries + 1)); done
mount -t ext4 -o noatime {disk} /image || fail "the image's disk can't be mounted\""""

# /proc/1/root leads back to the initramfs, where busybox is: the image need not have what sets a user. The program is
# looked for by hand, since a busybox that is told to run `sh` runs itself.
_WORKLOAD = """\
b=/proc/1/root/bin/busybox
umask 022
cannot() {{ echo "{marker} {cannot} 0 $1"; exit $2; }}
[ -d {directory} ] || $b mkdir -p {directory}
cd {directory} || cannot {directory}": can't be the working directory" 126
program={program}
case $program in
*/*)
    [ -e "$program" ] || cannot "$program: no such file or directory" 127
    ;;
*)
    for folder in {path}; do
        [ -f "$folder/$program" ] && [ -x "$folder/$program" ] && program=$folder/$program && break
    done
    case $program in */*) ;; *) cannot "$program: executable file not found in \\$PATH" 127 ;; esac
    ;;
esac
[ -f "$program" ] && [ -x "$program" ] || cannot "$program: permission denied" 126
exec $b env -i {environment}{user}"$program"{arguments}
"""


def init_script(tag: str, console: str, hostname: str, disk: str) -> str:
    """What the kernel runs. `console`: the serial port, as in ttyS0; `disk`: the image's, "" if it is in memory."""
    return _INIT.format(
        marker=marker(tag),
        userspace=USERSPACE,
        run=RUN,
        exit=EXIT,
        failed=FAILED,
        console=console,
        hostname=quote(hostname),
        root=_ROOT_ON_DISK.format(disk=disk) if disk else _ROOT_IN_MEMORY,
    )


def workload_script(tag: str, process: Mapping[str, Any]) -> str:
    """What becomes the image's process. `process`: as in an OCI config.json: args, env, cwd, user."""
    uid, gid = process["user"]["uid"], process["user"]["gid"]
    program, *arguments = process["args"]
    path = next((entry[5:] for entry in process["env"] if entry.startswith("PATH=")), "")
    return _WORKLOAD.format(
        marker=marker(tag),
        cannot=CANNOT,
        directory=quote(process["cwd"]),
        program=quote(program),
        path=" ".join(quote(folder or ".") for folder in path.split(":")),
        environment="".join(f"{quote(entry)} " for entry in process["env"]),
        user=f"$b nsenter -F -S {uid} -G {gid} " if (uid, gid) != (0, 0) else "",
        arguments="".join(f" {quote(argument)}" for argument in arguments),
    )
