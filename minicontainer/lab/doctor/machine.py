"""What the course needs of the machine: Python, nftables, the virtual machine's side, memory and disk.

Layer: lab. Each function looks at one thing and gives its row.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path

from ...errors import HostError, MinicontainerError
from ..vm.architecture import host_architecture
from .containers import PRIVILEGED, gibibytes
from .findings import Finding, State
from .host import Host, existing

GIB = 1 << 30
MIB = 1 << 20
ENOUGH_MEMORY = 900 * MIB
"""Total: what a machine sold with "1 GiB" shows. JupyterLab with a notebook takes 0.2, a virtual machine 0.2 to 0.4."""
LEAST_MEMORY = 400 * MIB
"""Available: containers alone need less, a virtual machine beside JupyterLab needs this."""
ENOUGH_DISK = 3 * GIB
LEAST_DISK = 200 * MIB


def python(host: Host) -> Finding:
    """The interpreter that runs this."""
    version = ".".join(str(number) for number in host.python)
    if host.python < (3, 11):
        return Finding("Python", "missing", f"{version}: 3.11 or newer is needed", host.install("python3"))
    return Finding("Python", "ok", f"{version}, {sys.executable}")


def nft(host: Host) -> Finding:
    """The program that writes the firewall's rules, and the kernel's side of it."""
    program = host.find("nft")
    if program is None:
        return Finding("nft", "missing", "not installed: no published ports", host.install("nftables"))
    version = host.say(program, "--version") or program
    said = host.tried.get("nft", "could not be tried")
    if said and host.uid != 0 and host.tried.get("unprivileged") != "":
        return Finding("nft", "limited", f"{version}; rules are root's alone: no published ports", "sudo -i")
    if said:
        found = f"{version}, but a table can't be made ({said}): no published ports"
        return Finding("nft", "limited", found, PRIVILEGED if "permitted" in said else f"{host.sudo}modprobe nf_tables")
    return Finding("nft", "ok", version)


def qemu(host: Host) -> Finding:
    """The virtual machine that containers are compared with."""
    try:
        needed = host_architecture(host.machine)
    except HostError as error:
        return Finding("QEMU", "missing", f"{error.message}: containers only", f"# {error.hint}")
    path = host.find(needed.qemu)
    if path is None:
        found = f"no {needed.qemu}: containers only, no virtual machine"
        return Finding("QEMU", "missing", found, host.install(needed.qemu_package))
    return Finding("QEMU", "ok", host.say(path, "--version") or path)


def kvm(host: Host) -> Finding:
    """The accelerator of virtual machines, probed by booting one: /dev/kvm may be there and not work."""
    from ..vm.probe import probe_accelerator  # takes seconds, and the rest of the virtual machine's side with it

    if qemu(host).state != "ok":
        return Finding("KVM", "limited", "can't be probed without QEMU", qemu(host).remedy)
    try:
        accelerator = probe_accelerator(host.paths)
    except MinicontainerError as error:
        return Finding("KVM", "limited", f"not probed: {error.message}", "./lab setup")
    if accelerator.name == "kvm":
        return Finding("KVM", "ok", accelerator.reason or "a guest has booted with it")
    reason = textwrap.shorten(accelerator.reason, 110, placeholder=" …")  # it may hold all that QEMU had to say
    found = f"QEMU emulates the processor (TCG), some ten times slower: {reason}"
    return Finding("KVM", "limited", found, _kvm_remedy(host))


def _kvm_remedy(host: Host, device: str = "/dev/kvm") -> str:
    words = host.fact("cpuinfo").split()
    if host.machine == "x86_64" and "vmx" not in words and "svm" not in words:
        return "# nested virtualization is off: only the provider of this machine can turn it on"
    if not os.path.exists(device):
        return f"{host.sudo}modprobe kvm_intel || {host.sudo}modprobe kvm_amd"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"sudo usermod -aG kvm {host.user}   # then log in again"
    return f"{host.sudo}dmesg | grep -i kvm | tail"


def memory(host: Host) -> Finding:
    """What JupyterLab, a container and a virtual machine side by side take."""
    total, available = host.memory("MemTotal"), host.memory("MemAvailable")
    found = f"{gibibytes(total)}, {gibibytes(available)} of it available"
    swap = "fallocate -l 1G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile"
    if total < ENOUGH_MEMORY:
        tight = "enough for containers, tight for JupyterLab beside a virtual machine (1 GiB)"
        return Finding("memory", "limited", f"{found}: {tight}", f"{host.sudo}sh -c '{swap}'")
    if available < LEAST_MEMORY:
        tight = f"a virtual machine needs {gibibytes(LEAST_MEMORY)}; stop what takes the rest"
        return Finding("memory", "limited", f"{found}: {tight}", "ps -eo rss,pid,args --sort=-rss | head -n 6")
    return Finding("memory", "ok", f"{found} (the whole course: 1 GiB)")


def disk(host: Host) -> Finding:
    """Room for images, containers and the guest's disk, where the state folder is."""
    folder = existing(host.paths.state)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "limited", f"can't look at {folder}: {error.strerror}", f"df -h {folder}")
    return room(host, folder, free)


def room(host: Host, folder: Path, free: int) -> Finding:
    """The row of `disk` for so many free bytes."""
    found = f"{gibibytes(free)} free for {host.paths.state} (the whole course: {gibibytes(ENOUGH_DISK)})"
    if free >= ENOUGH_DISK:
        return Finding("disk", "ok", found)
    state: State = "limited" if free >= LEAST_DISK else "missing"
    remedy = f"{host.sudo}apt-get clean && df -h {folder}\nexport MINICONTAINER_ROOT=/a/folder/on/another/disk"
    return Finding("disk", state, found, remedy)
