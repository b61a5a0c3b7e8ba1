"""What differs between the machines that a guest can be: names of programs, packages, boards and consoles.

Layer: lab.vm (imports errors). A guest has the host's architecture, since it boots the host's images.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...errors import HostError


@dataclass(frozen=True)
class Architecture:
    """One row: all that QEMU, apt and the kernel call differently from machine to machine."""

    machine: str
    """As uname(2) calls it."""
    name: str
    """As Debian and OCI call it."""
    qemu: str
    qemu_package: str
    board: str
    """QEMU's -machine: the plainest board that every version has."""
    tcg_cpu: str
    """The processor that is translated; empty for QEMU's default."""
    console: str
    """The serial port's device in the guest."""
    console_option: str
    """What the kernel must have built in to speak there."""
    parameters: tuple[str, ...]
    """Kernel parameters of this machine alone: the console that speaks from the first line on."""
    kernels: tuple[str, ...]
    """The packages that depend on the newest kernel, the smallest first: Debian's, Ubuntu's, Debian's full one."""


_ALL = (
    Architecture(
        machine="x86_64",
        name="amd64",
        qemu="qemu-system-x86_64",
        qemu_package="qemu-system-x86",
        board="pc",
        tcg_cpu="",
        console="ttyS0",
        console_option="SERIAL_8250_CONSOLE",
        parameters=("earlyprintk=serial", "edd=off"),
        kernels=("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"),
    ),
    Architecture(
        machine="aarch64",
        name="arm64",
        qemu="qemu-system-aarch64",
        qemu_package="qemu-system-arm",
        board="virt",
        tcg_cpu="cortex-a57",
        console="ttyAMA0",
        console_option="SERIAL_AMBA_PL011_CONSOLE",
        parameters=("earlycon",),
        kernels=("linux-image-cloud-arm64", "linux-image-virtual", "linux-image-arm64"),
    ),
)


def host_architecture(machine: str = "") -> Architecture:
    """The row of this host, or of `machine`. Raises HostError for one that nobody has tried."""
    machine = machine or os.uname().machine
    for row in _ALL:
        if row.machine == machine:
            return row
    known = " and ".join(row.machine for row in _ALL)
    raise HostError(f"no virtual machines for {machine} here", hint=f"the lab boots guests on {known}")
