"""Base images for real: busybox runs, and an mmdebstrap that is interrupted leaves no mount, no process, no folder."""

from __future__ import annotations

import calendar
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicontainer.errors import HostError
from minicontainer.images import ImageStore
from minicontainer.images.bootstrap import bootstrap


def inside(root: str, script: str) -> str:
    """What a shell in this root prints. It has mounts and a network of its own, and writes into an overlay."""
    layers = (
        'mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/m && mount -t overlay -o "lowerdir=$1,upperdir=/mnt/u,'
        'workdir=/mnt/w" x /mnt/m && exec chroot /mnt/m sh -c "$2"'
    )
    command = ["unshare", "-mn", "sh", "-c", layers, "sh", root, script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_busybox_runs(state):
    store = ImageStore(state)
    image = bootstrap(store, "busybox", progress=lambda _: None)
    (root,) = store.lowers(image)
    assert inside(root, "echo hello | tr a-z A-Z; id -un; stat -c %a /tmp") == "HELLO\nroot\n1777\n"
    assert {path.lstat().st_uid for path in Path(root).rglob("*")} == {0}


@pytest.mark.peer("mmdebstrap")
def test_debian_runs_and_has_nothing_of_today(state):
    store, said = ImageStore(state), []
    try:
        image = bootstrap(store, "debian", progress=said.append)
    except HostError as error:
        pytest.skip(f"{error.message} (making an image of Debian needs it)")
    assert said[-2:] == ["packing the layer", "unpacking the layer"]
    (root,) = store.lowers(image)
    assert (
        inside(root, "dpkg --audit; cat /etc/resolv.conf /etc/hostname /etc/machine-id; apt-get check -qq 2>&1") == ""
    )
    assert inside(root, "ls -A /dev /tmp /var/log /var/lib/apt/lists; command -v python3 || true").split() == [
        "/dev:", "/tmp:", "/var/lib/apt/lists:", "/var/log:",
    ]  # fmt: skip
    assert max(path.lstat().st_mtime for path in Path(root).rglob("*")) <= calendar.timegm(
        time.strptime(image.created, "%Y-%m-%dT%H:%M:%SZ")
    )
    assert image.size < 150_000_000


BOOTSTRAP = """
import sys
from minicontainer.images import ImageStore
from minicontainer.images.bootstrap import bootstrap_debian
from minicontainer.paths import Paths
bootstrap_debian(ImageStore(Paths(state=sys.argv[1])), None, lambda line: print(line, flush=True))
"""


def processes(word: str) -> list[str]:
    """The command lines, of all processes, that contain `word`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line] if word in line and str(os.getpid()) != folder.name else []
    return found


@pytest.mark.peer("mmdebstrap")
def test_an_interrupted_debian_leaves_nothing(state):
    command = [sys.executable, "-c", BOOTSTRAP, state.state]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "installing essential" in line:
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to the whole group
            break
    _, errors = process.communicate()
    if not seen:
        pytest.skip(f"no Debian mirror can be reached: {errors.splitlines()[-1]}")
    assert "KeyboardInterrupt" in errors
    assert os.listdir(state.layers) == []
    assert processes(state.state) == []
    assert state.state not in Path("/proc/mounts").read_text()
    assert ImageStore(state).list() == []
