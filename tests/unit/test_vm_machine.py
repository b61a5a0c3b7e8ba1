"""A virtual machine and the probe, with a QEMU of our own: a script that plays the guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.documents import read_document
from minicontainer.errors import InvalidArgument, MissingTool, StartFailed, WrongState
from minicontainer.lab.measure import Contestant, Snapshot
from minicontainer.lab.vm import media
from minicontainer.lab.vm.architecture import host_architecture
from minicontainer.lab.vm.kernel import Kernel
from minicontainer.lab.vm.machine import VirtualMachine
from minicontainer.lab.vm.probe import probe_accelerator
from minicontainer.paths import Paths
from minicontainer.runtime.spec import Options

SECONDS = 20.0
"""What no test needs: only there so that a failure doesn't hang."""
CONFIG = {"BLK_DEV_NVME": "y", "EXT4_FS": "y"}
BOOT = 'echo "Linux version 6"; echo "$mark userspace 1"; echo "$mark run 1"'
HELLO = f'{BOOT}; echo hello; echo "$mark exit 2 0 0"'
IMAGE = {"config": {"Cmd": ["echo", "from the image"], "Env": ["A=1"], "WorkingDir": "/srv"}}


@pytest.fixture
def qemu(tmp_path, monkeypatch):
    """Make the script QEMU: it knows $mark, which begins the guest's markers, and writes its arguments to a file."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin:/usr/sbin:/sbin")

    def make(script: str) -> Path:
        program = tmp_path / "bin" / host_architecture().qemu
        program.write_text(
            f'#!/bin/bash\nprintf "%s\\n" "$@" >>{tmp_path}/arguments\n'
            'while [ $# != 0 ]; do [ "$1" = -initrd ] && initrd=$2; shift; done\n'
            "mark=$(grep -ao -m1 '@minicontainer-[0-9a-f]*' \"$initrd\" | head -1)\n"
            f"{script}\n"
        )
        program.chmod(0o755)
        return tmp_path / "arguments"

    return make


@pytest.fixture
def paths(tmp_path):
    return Paths(state=str(tmp_path / "state"))


@pytest.fixture
def kernel(tmp_path):
    return Kernel("6.1-test", "linux-image-test", "6.1-1", str(tmp_path), host_architecture(), CONFIG)


@pytest.fixture
def layer(tmp_path):
    (tmp_path / "layer/etc").mkdir(parents=True)
    (tmp_path / "layer/etc/passwd").write_text("app:x:1000:1001:::\n")
    return str(tmp_path / "layer")


@pytest.fixture
def machine(paths, kernel, layer, needs):
    needs("busybox")
    made = []

    def machine(**more) -> VirtualMachine:
        made.append(VirtualMachine(paths, kernel, (layer,), more.pop("config", IMAGE), more.pop("command", ()), **more))
        return made[-1]

    yield machine
    for each in made:
        each.stop()


def script_of(machine: VirtualMachine) -> str:
    """What the guest would run: the scripts are in the archive as they are."""
    return Path(machine.media.initramfs).read_bytes().decode(errors="replace")


def test_it_is_a_contestant(qemu, machine):
    qemu(HELLO)
    contestant: Contestant = machine(label="VM")
    assert contestant.snapshot() == Snapshot("VM", "tcg", (), (), (), done=False)
    contestant.stop()
    contestant.start()
    assert contestant.wait(SECONDS) == 0
    shot = contestant.snapshot()
    assert shot.output == ("hello",)
    assert shot.done
    assert shot.error == ""
    assert {milestone.name for milestone in shot.milestones} == {"kernel", "userspace", "workload", "exit"}


def test_start_returns_before_the_machine_is_there(qemu, machine, tmp_path):
    os.mkfifo(tmp_path / "gate")
    qemu(f"read -r _ <{tmp_path}/gate; {HELLO}")
    vm = machine()
    vm.start()
    assert not vm.snapshot().done
    assert vm.snapshot().output == ()
    (tmp_path / "gate").write_text("go\n")
    assert vm.wait_for("workload", SECONDS).name == "workload"


def test_it_may_be_started_again_once_it_is_stopped(qemu, machine):
    qemu(f"{BOOT}; echo hello; exec sleep 100")
    vm = machine()
    for _ in range(2):
        with vm:
            vm.wait_for("workload", SECONDS)
            with pytest.raises(WrongState, match="is running"):
                vm.start()
        assert vm.snapshot().done
        assert vm.pid == 0
        vm.start()
    vm.wait_for("workload", SECONDS)
    assert vm.snapshot().output == ("hello",)


def test_boot_media_that_others_pushed_out_are_made_again(qemu, machine):
    qemu(HELLO)
    vm = machine()
    os.unlink(vm.media.initramfs)
    with vm:
        assert vm.wait(SECONDS) == 0


def test_what_it_runs_is_what_the_container_would(qemu, machine):
    qemu(HELLO)
    script = script_of(machine())
    assert "program=echo\n" in script
    assert "'from the image'" in script
    assert "A=1" in script
    assert "cd /srv " in script


def test_options_are_the_containers_own(qemu, machine):
    qemu(HELLO)
    options = Options(user="app", environment=("B=2",), working_directory="/w", hostname="box", entrypoint=("/e",))
    script = script_of(machine(command=["x y"], options=options))
    for words in ("program=/e\n", "'x y'", "B=2", "cd /w ", "hostname box", "-S 1000 -G 1001"):
        assert words in script


def test_the_images_user_is_used(qemu, machine):
    qemu(HELLO)
    assert "-S 1000 -G 1001" in script_of(machine(config={"config": {**IMAGE["config"], "User": "app"}}))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"config": {}}, "no command specified"),
        ({"options": Options(user="nobody-here")}, "unable to find user nobody-here"),
        ({"memory_mb": 16}, "16 MiB are too few"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(qemu, machine, more, words):
    qemu(HELLO)
    with pytest.raises(InvalidArgument, match=words):
        machine(**more)


def test_waiting_too_short_says_what_was_last_seen(qemu, machine):
    qemu(f"{BOOT}; echo almost; exec sleep 100")
    vm = machine()
    with vm:
        vm.wait_for("workload", SECONDS)
        with pytest.raises(StartFailed, match=r"didn't reach 'exit': 0\.01 s passed") as caught:
            vm.wait_for("exit", 0.01)
        assert "almost" in caught.value.hint
        with pytest.raises(StartFailed, match="still running"):
            vm.wait(0.01)


def test_a_machine_that_ended_early_says_why_and_not_that_time_passed(qemu, machine):
    qemu("echo 'qemu: out of luck' >&2; exit 1")
    with machine() as vm, pytest.raises(StartFailed, match="didn't reach 'workload': QEMU failed: out of luck"):
        vm.wait_for("workload", SECONDS)


def test_never_started_is_not_waited_for(qemu, machine):
    qemu(HELLO)
    with pytest.raises(WrongState, match="never started"):
        machine().wait()


def test_a_small_image_is_in_memory_and_a_large_one_on_a_disk(qemu, machine, layer, tmp_path):
    arguments = qemu(HELLO)
    with open(f"{layer}/large", "wb") as file:
        file.truncate(20 << 20)
    small, large = machine(memory_mb=512), machine(memory_mb=128)
    assert small.media.disk == ""
    assert large.media.disk.endswith(".ext4")
    assert "mount -t ext4" in script_of(large)
    assert os.path.getsize(large.media.initramfs) < 10 << 20 < os.path.getsize(small.media.initramfs)
    with large:
        large.wait(SECONDS)
    assert f"file={large.media.disk},if=none,id=image,format=raw,snapshot=on" in arguments.read_text()
    assert any("on a disk" in note for note in large.notes)


def test_the_same_machine_uses_the_same_files_and_another_image_others(qemu, machine, layer):
    qemu(HELLO)
    first, second = machine().media, machine().media
    assert first == second
    Path(layer, "etc/more").write_text("more")
    assert machine().media.initramfs != first.initramfs


def test_only_the_newest_files_are_kept(qemu, machine, paths):
    qemu(HELLO)
    for number in range(media._KEPT + 3):
        latest = machine(command=["echo", str(number)])
    kept = [name for name in os.listdir(f"{paths.lab}/boot") if name.endswith(".cpio")]
    assert len(kept) == media._KEPT
    assert os.path.basename(latest.media.initramfs) in kept


def test_without_busybox_there_is_a_hint(qemu, machine, monkeypatch):
    qemu(HELLO)
    monkeypatch.setattr(media, "BUSYBOX", "/no/such/busybox")
    with pytest.raises(MissingTool) as caught:
        machine()
    assert caught.value.hint == "apt-get install busybox-static"


def test_the_notes_say_how_instructions_are_executed(qemu, machine):
    qemu(HELLO)
    assert any("tcg" in note for note in machine().notes)
    assert not any("tcg: " in note for note in machine(accelerator="kvm").notes)


@pytest.fixture
def device(tmp_path):
    path = tmp_path / "kvm"
    path.touch()
    return path


def test_kvm_is_believed_once_a_guest_came_up(qemu, paths, kernel, device, needs):
    needs("busybox")
    arguments = qemu(BOOT + "; exec sleep 100")
    assert probe_accelerator(paths, kernel, str(device)).name == "kvm"
    assert "\nkvm\n" in arguments.read_text()
    assert read_document(f"{paths.lab}/accelerator.json")["name"] == "kvm"


def test_the_answer_is_kept_until_something_changes(qemu, paths, kernel, device, needs):
    needs("busybox")
    arguments = qemu(BOOT)
    first = probe_accelerator(paths, kernel, str(device))
    size = arguments.stat().st_size
    assert probe_accelerator(paths, kernel, str(device)) == first
    assert arguments.stat().st_size == size
    qemu(f"exit 1 # {BOOT}")
    assert probe_accelerator(paths, kernel, str(device)).name == "tcg"


def test_a_guest_that_hangs_under_kvm_is_ended(qemu, paths, kernel, device, needs, tmp_path):
    needs("busybox")
    qemu(f"echo $$ >{tmp_path}/pid; trap '' TERM; while :; do sleep 1; done")
    accelerator = probe_accelerator(paths, kernel, str(device), limit=1.0)
    assert accelerator.name == "tcg"
    assert "doesn't work" in accelerator.reason
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


def test_no_device_is_answered_without_booting(qemu, paths, kernel, tmp_path):
    arguments = qemu(BOOT)
    accelerator = probe_accelerator(paths, kernel, str(tmp_path / "nothing"))
    assert accelerator.name == "tcg"
    assert "isn't there" in accelerator.reason
    assert not arguments.exists()


def test_a_damaged_note_is_no_answer(qemu, paths, kernel, tmp_path):
    qemu(BOOT)
    os.makedirs(paths.lab)
    for note in ("{", "[]", '{"key": 1}', "null"):
        Path(paths.lab, "accelerator.json").write_text(note)
        assert probe_accelerator(paths, kernel, str(tmp_path / "nothing")).name == "tcg"
