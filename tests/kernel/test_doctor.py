"""The doctor on this machine: what it says is true, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from minicontainer.lab.doctor import containers, trials
from minicontainer.lab.doctor.host import Host
from minicontainer.paths import Paths

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); "]
DOCTOR = [*PYTHON[:-1], PYTHON[-1] + "from minicontainer.lab import doctor; sys.exit(doctor.main(sys.argv[1:]))"]

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="what root may do is only seen by root"),
]


def namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}


def test_trials_say_what_this_kernel_does_and_leave_this_process_alone(tmp_path: Path) -> None:
    before, mounts = namespaces(), Path("/proc/self/mountinfo").read_text()
    said = trials.outcomes(tmp_path)
    assert set(said) == {*trials.NAMESPACES, "unprivileged", "overlay", "nft"}
    for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup", "user"):  # or none of these tests could run
        assert said[name] == ""
    assert (namespaces(), Path("/proc/self/mountinfo").read_text()) == (before, mounts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="compares with setpriv(1) of util-linux")
def test_users_without_privilege_are_told_what_unshare_tells_them(tmp_path: Path) -> None:
    command = "setpriv --reuid=65534 --regid=65534 --clear-groups unshare --user --map-root-user --mount true".split()
    works = subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (trials.outcomes(tmp_path)["unprivileged"] == "") == works


def test_a_user_can_remove_what_overlay_has_left() -> None:
    place = Path(tempfile.mkdtemp())  # not tmp_path, which is root's alone
    (place / "trial/work").mkdir(parents=True)
    for path in (place, place / "trial", place / "trial/work"):
        os.chown(path, 65534, 65534)
    pid = os.fork()
    if pid == 0:  # without an exec: this user may not be allowed to read this checkout
        try:
            os.setresuid(65534, 65534, 65534)
            (place / "trial/work/work").mkdir(mode=0)
            trials.remove(place / "trial")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    left = list(place.iterdir())
    shutil.rmtree(place)
    assert left == []


def test_a_process_with_threads_may_ask(tmp_path: Path) -> None:
    """As a notebook's kernel has them, in which fork and unshare go wrong."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert trials.outcomes(tmp_path)["pid"] == ""
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_overlay_is_tried_where_the_state_is() -> None:
    """On an overlay there can't be another's upper folder: as in a container without a volume."""
    script = """
        mount -t tmpfs tmpfs "$1"; cd "$1"; mkdir lower upper work merged
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged
        shift; exec "$@"
    """
    ask = """
from pathlib import Path
from minicontainer.lab.doctor import containers
from minicontainer.lab.doctor.host import Host
from minicontainer.paths import Paths
finding = containers.overlay(Host.here(Paths(state=str(Path("merged").resolve()))))
print(finding.state, finding.found)
"""
    command = ["sh", "-ec", script, "sh", "/mnt", *PYTHON[:-1], PYTHON[-1] + ask]
    done = subprocess.run(["unshare", "-m", *command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("missing doesn't work on /mnt/merged (overlay): ")


def test_the_kernel_row_names_this_kernel() -> None:
    assert os.uname().release in containers.kernel(Host(Paths(state="/nonexistent"))).found


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="takes a right away with setpriv(1) of util-linux")
def test_without_the_right_the_answer_is_no(tmp_path: Path) -> None:
    denied = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    environment = {**os.environ, "MINICONTAINER_ROOT": str(tmp_path)}
    done = subprocess.run(
        [*denied, *DOCTOR, "--json"], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    states = {finding["topic"]: finding["state"] for finding in report["findings"]}
    assert report["can_run"] is False
    assert states["namespace mnt"] == states["namespace pid"] == states["overlay"] == "missing"
    assert list(tmp_path.iterdir()) == []


def test_the_whole_examination(tmp_path: Path) -> None:
    environment = {**os.environ, "MINICONTAINER_ROOT": str(tmp_path)}
    done = subprocess.run(DOCTOR, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for topic in ("kernel", "namespace pid", "cgroup memory", "overlay", "nft", "QEMU", "KVM", "memory", "disk"):
        assert any(topic in line for line in done.stdout.splitlines())
    assert "\033" not in done.stdout
    assert list(tmp_path.iterdir()) == []
