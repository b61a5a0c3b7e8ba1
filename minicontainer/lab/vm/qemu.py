"""How QEMU is called: a guest with one processor, a serial console, no other devices than it needs.

Layer: lab.vm (imports architecture, kernel, errors). Pure but for the look for QEMU itself.

What is chosen here for the machine's good, so that the comparison is fair to it, and what that costs:

    no default devices, no network card, no video      less to emulate, less to find
    -kernel                                            no boot loader
    cryptomgr.notests                                  0.25 s of 2.0: the kernel doesn't test its own ciphers
    nokaslr                                            0.1 s and 16 MiB: it unpacks itself in place
    tb-size=32                                         QEMU's translations of the guest's code, which are in its memory,
                                                       take 32 MiB at most; with its default of 1 GiB a boot takes as
                                                       long, and 12 MiB more

Source: qemu(1), kernel-parameters(7).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from ...errors import MissingTool
from .architecture import Architecture
from .kernel import Kernel

KVM, TCG = "kvm", "tcg"
TRANSLATIONS_MB = 32
"""The size of TCG's translation cache, in MiB."""
PARAMETERS = ("loglevel=6", "panic=-1", "nokaslr", "cryptomgr.notests")
"""For the guest's kernel: say its version and what is wrong, and on a panic reboot, which ends QEMU."""


@dataclass(frozen=True)
class Hardware:
    """What a guest is given."""

    kernel: Kernel
    accelerator: str
    memory_mb: int
    initramfs: str
    disk: str
    """The file of its disk, or ""."""


def find_qemu(architecture: Architecture) -> str:
    """The path of QEMU for this machine. Raises MissingTool."""
    path = shutil.which(architecture.qemu)
    if path is None:
        raise MissingTool(
            f"{architecture.qemu} is not installed",
            hint=f"apt-get install --no-install-recommends {architecture.qemu_package}",
        )
    return path


def qemu_command(qemu: str, hardware: Hardware, monitor: int) -> list[str]:
    """QEMU's arguments. Console: standard output. `monitor`: a connected socket that it inherits, for QMP."""
    architecture = hardware.kernel.architecture
    accelerator = f"tcg,tb-size={TRANSLATIONS_MB}" if hardware.accelerator == TCG else hardware.accelerator
    processor = "host" if hardware.accelerator == KVM else architecture.tcg_cpu
    parameters = (f"console={architecture.console}", *architecture.parameters, *PARAMETERS)
    command = [
        qemu, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
        "-machine", architecture.board, "-accel", accelerator, *(("-cpu", processor) if processor else ()),
        "-smp", "1", "-m", str(hardware.memory_mb),
        "-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control",
        "-serial", "stdio",
        "-kernel", hardware.kernel.image, "-initrd", hardware.initramfs, "-append", " ".join(parameters),
    ]  # fmt: skip
    if hardware.disk:
        device, _ = hardware.kernel.disk
        path = hardware.disk.replace(",", ",,")  # qemu(1): a comma inside a value is written twice
        command += ["-drive", f"file={path},if=none,id=image,format=raw,snapshot=on"]
        command += ["-device", f"{device},drive=image,serial=image"]
    return command
