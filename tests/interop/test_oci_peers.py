"""The bundle of a container of ours, run by runc and crun as it is: they see in it what our engine sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from real_engine import SECONDS, groups

from minicontainer import Engine
from minicontainer.isolation.cgroups import detect
from minicontainer.isolation.cgroups.tree import kill_tree, remove_if_empty, remove_tree
from minicontainer.paths import Paths
from minicontainer.runtime.spec import Options

pytestmark = pytest.mark.kernel

LOOK = """
id; hostname; pwd; echo $$
cut -d ' ' -f 5- /proc/self/mountinfo | grep -v -E '^/(proc|sys)/.*' | sort | sed 's/,inode64//'
grep -E '^(Cap|NoNewPrivs|Groups|Umask)' /proc/1/status
tr '\\0' '\\n' </proc/1/environ | sort
cd /dev && stat -c '%n %F %a %u:%g %t,%T' *
for path in /proc/keys /proc/timer_list; do cat $path; done; ls -A /proc/acpi /sys/firmware
(: >>/proc/sys/kernel/hostname) 2>&1
touch /made 2>&1; ls /made 2>&1
readlink /proc/self/ns/user
ip -o link | cut -d : -f 2
for file in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do
    [ -e $file ] && cat $file
done
exit 3
"""
OPTIONS = {
    "defaults": Options(),
    "user": Options(user="33:100", working_directory="/srv/new", environment=("A=it's b",)),
    "strict": Options(read_only=True, no_new_privileges=True, hostname="box"),
    "limits": Options(memory=64 << 20, pids_limit=64, cpus=0.5),
    "network": Options(network="host"),
}
# What comes before, by hand: the overlay, in a mount namespace of its own. crun refuses machines with both kinds of
# control groups, so the second kind is put out of its sight.
PREPARE = """
mount --make-rprivate /
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/merged"
if [ "$3" = crun ] && mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
shift 2
exec "$@"
"""


@pytest.fixture(params=["runc", "crun"])
def peer(request, needs):
    """The name of a runtime, and a folder for what it keeps of its containers."""
    needs(request.param)
    folder = tempfile.mkdtemp(prefix=f"{request.param}-")
    yield request.param, folder
    shutil.rmtree(folder)


def run_by(peer: tuple[str, str], lower: str, bundle: str, identifier: str) -> subprocess.CompletedProcess[bytes]:
    """Have another runtime run a bundle, in the foreground."""
    name, folder = peer
    prepare = ["unshare", "--mount", "sh", "-ec", PREPARE, "sh", lower, bundle]
    command = [name, "--root", folder, "run", "--bundle", bundle, identifier]
    # A pipe, since crun gives its standard input to the container's user, and it would be the /dev/null inside.
    return subprocess.run([*prepare, *command], input=b"", capture_output=True, timeout=SECONDS, check=False)


def remove_groups(identifier: str) -> None:
    """Those that the peer has made and not removed, in whichever tree."""
    for group in groups(identifier):
        kill_tree(str(group))
        remove_tree(str(group))
        remove_if_empty(str(group.parent))
    for tree in detect(Paths(state="/nonexistent")).trees:
        remove_if_empty(tree.parent)


def normal(output: bytes, identifier: str) -> list[str]:
    text = output.decode().replace(identifier, "<ID>").replace(identifier[:12], "<id>")
    # crun makes the mount read-only, and not the file system, which nobody else has mounted
    lines = text.replace("sysfs sysfs rw", "sysfs sysfs ro").splitlines()
    # and it makes the link /dev/core also where the kernel has no /proc/kcore
    return [line for line in lines if not line.startswith("core symbolic link")]


@pytest.mark.parametrize("name", OPTIONS)
def test_what_they_see_in_it(cli, peer, name):
    engine = Engine(str(cli.state))
    identifier = engine.create("busybox", OPTIONS[name].replace(command=("sh", "-c", LOOK)))
    bundle = str(cli.folder(identifier))
    (lower,) = (str(layer) for layer in Path(engine.paths.layers).iterdir() if layer.is_dir())
    try:
        theirs = run_by(peer, lower, bundle, identifier)
    finally:
        remove_groups(identifier)
    assert theirs.stdout, theirs.stderr
    shutil.rmtree(f"{bundle}/upper")
    os.mkdir(f"{bundle}/upper")
    shutil.rmtree(f"{bundle}/work")
    os.mkdir(f"{bundle}/work")

    container = engine.containers.get(identifier)
    container.start()
    assert container.wait() == {"StatusCode": 3}
    engine.close()

    assert theirs.returncode == 3
    assert normal(theirs.stdout, identifier) == normal(container.logs(stderr=False), identifier)
