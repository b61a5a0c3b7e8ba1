"""Which accelerator works here: found out by booting, since /dev/kvm may be there and not work.

Layer: lab.vm (imports machine, kernel, qemu, documents, paths).

    STATE/lab/accelerator.json     {"key": […], "name": "tcg", "reason": "…"}

    no /dev/kvm, or not ours to open             tcg
    a guest reaches userspace under KVM in 5 s   kvm
    anything else                                tcg: inside some virtual machines KVM crawls or hangs

The answer is kept for this boot of the host, this QEMU and this kernel; only a different one of them asks again. A
guest that hangs is killed and reaped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ...documents import read_document, write_document
from ...errors import HostError, IntegrityError, StartFailed
from ...paths import Paths
from .kernel import Kernel, find_kernel
from .machine import VirtualMachine
from .qemu import KVM, TCG, find_qemu

LIMIT = 5.0
"""Seconds in which a working KVM has long reached userspace: it takes less than one."""
DEVICE = "/dev/kvm"
_MEMORY_MB = 128


@dataclass(frozen=True)
class Accelerator:
    """How guests' instructions are executed: name "kvm" (by the processor) or "tcg" (translated), and why that."""

    name: str
    reason: str


def probe_accelerator(
    paths: Paths, kernel: Kernel | None = None, device: str = DEVICE, limit: float = LIMIT
) -> Accelerator:
    """The accelerator that works here. Takes up to `limit` seconds once for each boot of the host.

    Raises NotFound without a guest kernel, MissingTool without QEMU.
    """
    kernel = kernel or find_kernel(paths)
    key = _key(paths, kernel, device)
    note = os.path.join(paths.lab, "accelerator.json")
    try:
        kept = read_document(note)
        if kept["key"] == key:
            return Accelerator(str(kept["name"]), str(kept["reason"]))
    except (OSError, IntegrityError, KeyError, TypeError):
        pass  # never probed, or not by us: probe
    found = _probe(paths, kernel, device, limit)
    try:
        write_document(note, {"key": key, "name": found.name, "reason": found.reason})
    except (OSError, HostError):
        pass  # a state folder that isn't ours to write: the next one probes again
    return found


def _key(paths: Paths, kernel: Kernel, device: str) -> list[Any]:
    """What the answer depends on: this boot of the host, QEMU, the guest's kernel, and our right to the device."""
    qemu = os.stat(find_qemu(kernel.architecture))
    try:
        with open(f"{paths.proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    allowed = os.access(device, os.R_OK | os.W_OK)
    return [boot, qemu.st_size, qemu.st_mtime_ns, kernel.release, kernel.version, allowed]


def _probe(paths: Paths, kernel: Kernel, device: str, limit: float) -> Accelerator:
    if not os.path.exists(device):
        return Accelerator(TCG, f"{device} isn't there: no hardware virtualisation, or its module isn't loaded")
    if not os.access(device, os.R_OK | os.W_OK):
        return Accelerator(TCG, f"{device} isn't ours to open: be root, or in the group kvm")
    machine = VirtualMachine(
        paths, kernel, (), None, ["true"], accelerator=KVM, memory_mb=_MEMORY_MB, label="probe", boot_limit=limit
    )
    with machine:
        try:
            seconds = machine.wait_for("userspace", timeout=limit).seconds
        except StartFailed:
            error = machine.snapshot().error
            reason = error or f"a guest didn't reach userspace in {limit:g} s"
            return Accelerator(TCG, f"{device} is there but doesn't work: {reason}")
    return Accelerator(KVM, f"a guest reached userspace in {seconds:.1f} s")
