"""How QEMU is called: values in, an argument vector out."""

from __future__ import annotations

import pytest

from minicontainer.errors import HostError, MissingTool
from minicontainer.lab.vm.architecture import host_architecture
from minicontainer.lab.vm.kernel import OPTIONS, Kernel
from minicontainer.lab.vm.qemu import KVM, TCG, Hardware, find_qemu, qemu_command

DEBIAN = {"BLK_DEV_NVME": "y", "VIRTIO": "m", "VIRTIO_PCI": "m", "VIRTIO_BLK": "m", "EXT4_FS": "y"}
UBUNTU = {"BLK_DEV_NVME": "m", "VIRTIO": "y", "VIRTIO_PCI": "y", "VIRTIO_BLK": "y", "EXT4_FS": "y"}


def kernel(config: dict[str, str], machine: str = "x86_64") -> Kernel:
    return Kernel("6.1-test", "linux-image-test", "6.1-1", "/k", host_architecture(machine), config)


def command(
    config: dict[str, str] = DEBIAN, machine: str = "x86_64", accelerator: str = TCG, disk: str = ""
) -> list[str]:
    return qemu_command("/q", Hardware(kernel(config, machine), accelerator, 128, "/i.cpio", disk), monitor=9)


def after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_a_guest_has_no_more_than_it_needs():
    arguments = command()
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(arguments)
    assert not {"-drive", "-device", "-netdev"} & set(arguments)
    assert after(arguments, "-kernel") == "/k/vmlinuz"
    assert after(arguments, "-initrd") == "/i.cpio"
    assert after(arguments, "-m") == "128"
    assert "fd=9" in after(arguments, "-chardev")


def test_tcg_has_a_small_translation_cache_and_kvm_the_hosts_processor():
    assert after(command(), "-accel") == "tcg,tb-size=32"
    assert "-cpu" not in command()
    assert after(command(accelerator=KVM), "-accel") == "kvm"
    assert after(command(accelerator=KVM), "-cpu") == "host"


def test_the_kernel_speaks_on_the_serial_port_from_its_first_line():
    parameters = after(command(), "-append").split()
    assert {"console=ttyS0", "earlyprintk=serial", "panic=-1"} <= set(parameters)


def test_arm_has_its_own_board_console_and_processor():
    arguments = command(machine="aarch64")
    assert after(arguments, "-machine") == "virt"
    assert after(arguments, "-cpu") == "cortex-a57"
    assert {"console=ttyAMA0", "earlycon"} <= set(after(arguments, "-append").split())
    assert after(command(machine="aarch64", accelerator=KVM), "-cpu") == "host"


@pytest.mark.parametrize(("config", "device"), [(DEBIAN, "nvme"), (UBUNTU, "virtio-blk-pci")])
def test_the_disk_is_of_the_kind_that_the_kernel_has_built_in(config, device):
    arguments = command(config, disk="/d.ext4")
    assert after(arguments, "-device") == f"{device},drive=image,serial=image"
    assert after(arguments, "-drive") == "file=/d.ext4,if=none,id=image,format=raw,snapshot=on"


def test_a_comma_in_a_path_is_no_option():
    assert after(command(disk="/a,readonly=on.ext4"), "-drive").startswith("file=/a,,readonly=on.ext4,if=")


@pytest.mark.parametrize("missing", ["EXT4_FS", "BLK_DEV_NVME"])
def test_a_kernel_without_a_disk_built_in_says_so(missing):
    with pytest.raises(HostError, match=r"linux-image-test has neither NVMe nor virtio"):
        command({**DEBIAN, missing: "m"}, disk="/d.ext4")


def test_what_is_read_of_a_config_includes_all_that_is_asked_of_it():
    assert set(DEBIAN) | {row.console_option for row in map(host_architecture, ("x86_64", "aarch64"))} <= set(OPTIONS)


def test_no_qemu_says_which_package_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="qemu-system-x86_64 is not installed") as caught:
        find_qemu(host_architecture("x86_64"))
    assert "qemu-system-x86" in caught.value.hint


def test_a_machine_that_nobody_tried_is_named():
    with pytest.raises(HostError, match="riscv64"):
        host_architecture("riscv64")
