"""Virtual machines for real: QEMU, the distribution's kernel, an image. Seconds each, many without KVM."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicontainer.errors import MinicontainerError
from minicontainer.images import ImageStore
from minicontainer.images.bootstrap import bootstrap_busybox
from minicontainer.lab.vm import VirtualMachine, boot, fetch_kernel, find_kernel, probe_accelerator
from minicontainer.lab.vm.architecture import host_architecture
from minicontainer.lab.vm.media import BUSYBOX
from minicontainer.paths import Paths
from minicontainer.runtime.spec import Options

pytestmark = pytest.mark.guest

LONG = 120.0
"""Seconds that no boot needs: only there so that a failure doesn't hang."""


@pytest.fixture(scope="session")
def kernel_folder(checkout, needs) -> Path:
    """A fetched kernel, kept between runs."""
    needs(host_architecture().qemu)
    needs("mke2fs")
    cache = Paths(state=str(checkout / ".cache" / "guest"))
    try:
        fetch_kernel(cache, lambda _: None, modules=True)  # the test guest wants them, from the same folder
    except MinicontainerError as error:
        pytest.skip(f"no guest kernel: {error.message} ({error.hint})")
    return Path(cache.lab) / "kernel"


@pytest.fixture
def paths(state, kernel_folder) -> Paths:
    """A fresh state folder with the kernel and the answer which accelerator works, as if fetched and probed there."""
    os.mkdir(state.lab)
    os.symlink(kernel_folder, f"{state.lab}/kernel")
    kept = kernel_folder.parent / "accelerator.json"
    if not kept.exists():
        probe_accelerator(Paths(state=str(kernel_folder.parent.parent)))
    os.symlink(kept, f"{state.lab}/accelerator.json")
    return state


def make_layer(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


@pytest.fixture
def base(tmp_path) -> str:
    """A layer with busybox and its links."""
    layer = make_layer(tmp_path / "base", {"etc/passwd": "app:x:1000:1001:::\n"})
    (tmp_path / "base/bin").mkdir()
    with open(BUSYBOX, "rb") as source, open(tmp_path / "base/bin/busybox", "wb") as target:
        target.write(source.read())
    (tmp_path / "base/bin/busybox").chmod(0o755)
    for applet in (
        "sh",
        "cat",
        "id",
        "env",
        "find",
        "stat",
        "md5sum",
        "grep",
        "hostname",
        "tail",
        "uname",
        "xargs",
        "sort",
    ):
        (tmp_path / "base/bin" / applet).symlink_to("busybox")
    return layer


def guest(paths: Paths, layers: tuple[str, ...], *command: str, **more) -> VirtualMachine:
    accelerator = probe_accelerator(paths).name
    return VirtualMachine(paths, find_kernel(paths), layers, None, command, accelerator=accelerator, **more)


def output(machine: VirtualMachine, code: int = 0) -> list[str]:
    """Run a machine to its end, and give what its workload printed."""
    with machine:
        assert machine.wait(LONG) == code, machine.snapshot()
        return list(machine.snapshot().output)


def test_an_image_boots_with_a_kernel_of_its_own(paths, tmp_path):
    bootstrap_busybox(ImageStore(paths), progress=lambda _: None)
    machine = boot(paths, "busybox", ["uname", "-r"])
    with machine:
        assert machine.wait(LONG) == 0
        shot = machine.snapshot()
    assert shot.output == (machine.kernel.release,)
    assert machine.kernel.release != os.uname().release
    assert [mark.name for mark in shot.milestones] == ["hypervisor", "kernel", "userspace", "workload", "exit"]
    assert [mark.seconds for mark in shot.milestones] == sorted(mark.seconds for mark in shot.milestones)
    assert shot.accelerator in ("kvm", "tcg")
    assert shot.error == ""
    assert 32 << 20 < max(sample.bytes for sample in shot.samples) < 512 << 20
    assert machine.pid == 0


def test_an_image_without_a_shell_and_with_a_user(paths, tmp_path):
    layer = make_layer(tmp_path / "layer", {"etc/passwd": "app:x:1000:1001:::\n"})
    (tmp_path / "layer/busybox").write_bytes(Path(BUSYBOX).read_bytes())
    (tmp_path / "layer/busybox").chmod(0o755)
    assert output(guest(paths, (layer,), "/busybox", "id", "-u", options=Options(user="app"))) == ["1000"]


def test_the_process_gets_what_a_container_gets(paths, base):
    script = 'env; echo "in $PWD"; echo "on $(hostname)"; echo "as $(id -u):$(id -g)"; cat; echo "$0 $1 $2"; exit 3'
    options = Options(
        environment=("WORD=it's two words",), working_directory="/srv/app", hostname="box", user="1234:5678"
    )
    lines = output(guest(paths, (base,), "sh", "-c", script, "a b", "$HOME", "*", options=options), code=3)
    assert {"WORD=it's two words", "HOSTNAME=box", "in /srv/app", "on box", "as 1234:5678", "a b $HOME *"} <= set(lines)
    assert not any("minicontainer" in line for line in lines)


@pytest.mark.parametrize("memory_mb", [512, 128], ids=["in memory", "on a disk"])
def test_the_guest_sees_the_merged_layers(paths, base, tmp_path, memory_mb):
    top = make_layer(tmp_path / "top", {"data/new": "new", "data/closed": "c", "opaque/new": "n"})
    low = make_layer(
        tmp_path / "low", {"data/old": "old", "data/gone": "gone", "opaque/old": "o", "etc/passwd": "below"}
    )
    os.mknod(f"{top}/data/gone", stat.S_IFCHR, 0)
    os.setxattr(f"{top}/opaque", "trusted.overlay.opaque", b"y")
    os.link(f"{top}/data/new", f"{top}/data/twin")
    os.chown(f"{top}/data/closed", 12, 34)
    os.chmod(f"{top}/data/closed", 0o4750)
    os.mkfifo(f"{top}/data/pipe")
    os.symlink("/data/new", f"{top}/data/link")
    (tmp_path / "low/large").write_bytes(b"\0" * (20 << 20))
    command = (
        "find /data /opaque | sort; stat -c '%n %u:%g %a %h' /data/closed /data/twin; cat /data/link /etc/passwd; "
        "md5sum /large; grep ' / ' /proc/mounts"
    )
    machine = guest(paths, (top, base, low), "sh", "-c", command, memory_mb=memory_mb)
    *lines, mount = output(machine)
    assert lines == [
        "/data", "/data/closed", "/data/link", "/data/new", "/data/old", "/data/pipe", "/data/twin", "/opaque",
        "/opaque/new", "/data/closed 12:34 4750 1", "/data/twin 0:0 644 2", "newapp:x:1000:1001:::",
        f"{hashlib.md5(bytes(20 << 20)).hexdigest()}  /large",
    ]  # fmt: skip
    assert ("ext4" in mount) == bool(machine.media.disk) == (memory_mb == 128)


def test_what_a_guest_writes_is_gone_with_it(paths, base, tmp_path):
    (tmp_path / "base/large").write_bytes(b"\0" * (20 << 20))
    machine = guest(paths, (base,), "sh", "-c", "cat /trace; echo here >/trace && cat /trace")
    for _ in range(2):
        with machine:
            assert machine.wait(LONG) == 0
            assert machine.snapshot().output[-1] == "here"
            assert len(machine.snapshot().output) == 2  # cat's complaint and the line: there was no trace yet
    assert not (tmp_path / "base/trace").exists()


def test_a_guest_out_of_memory_says_so(paths, base):
    machine = guest(paths, (base,), "tail", "/dev/zero")
    with machine:
        assert machine.wait(LONG) == 137
        assert "memory (128 MiB) is too small" in machine.snapshot().error


def test_a_command_that_is_not_there_says_so(paths, base):
    machine = guest(paths, (base,), "no-such-command")
    with machine:
        assert machine.wait(LONG) == 127
        shot = machine.snapshot()
    assert "no-such-command: executable file not found in $PATH" in shot.error
    assert "workload" not in [mark.name for mark in shot.milestones]


def test_a_machine_can_be_stopped_in_the_middle_of_its_boot(paths, base):
    machine = guest(paths, (base,), "true")
    machine.start()
    machine.wait_for("kernel", LONG)
    pid = machine.pid
    machine.stop()
    shot = machine.snapshot()
    assert shot.done
    assert shot.error == ""
    assert not Path(f"/proc/{pid}").exists()


def test_no_machine_outlives_a_killed_notebook(paths, base, checkout):
    program = f"""
import time
from minicontainer.paths import Paths
from minicontainer.lab.vm import VirtualMachine, find_kernel
paths = Paths(state={paths.state!r})
machine = VirtualMachine(paths, find_kernel(paths), ({base!r},), None, ["cat", "/dev/zero"])
machine.start()
machine.wait_for("userspace", {LONG})
print(machine.pid, flush=True)
time.sleep({LONG})
"""
    notebook = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=checkout)
    try:
        pid = int(notebook.stdout.readline())
        assert "qemu" in Path(f"/proc/{pid}/cmdline").read_text()
    finally:
        notebook.kill()
        notebook.wait()
        notebook.stdout.close()
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline and b"qemu" in read(f"/proc/{pid}/cmdline"):
        time.sleep(0.02)
    assert b"qemu" not in read(f"/proc/{pid}/cmdline")


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_the_command_line_boots_an_image(paths, checkout):
    bootstrap_busybox(ImageStore(paths), progress=lambda _: None)
    command = [sys.executable, "-m", "minicontainer.lab.vm", "--root", paths.state]
    run = subprocess.run(
        [*command, "boot", "busybox", "--", "sh", "-c", "echo hello; exit 5"],
        capture_output=True, text=True, check=False, cwd=checkout,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (5, "hello\n")
    assert "workload" in run.stderr
    run = subprocess.run([*command, "boot", "no-such-image"], capture_output=True, text=True, check=False, cwd=checkout)
    assert run.returncode == 125
    assert "no-such-image" in run.stderr
    assert "Traceback" not in run.stderr
