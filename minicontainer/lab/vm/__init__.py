"""Virtual machines that boot the engine's images, to compare with its containers.

Layer: lab (imports the engine's lower layers: images, layers, rootfs, runtime's spec). Inside, imports go down:

    boot
    probe          which accelerator works
    machine        VirtualMachine: a contestant
    session        a QEMU that runs, its supervisor, its console, its memory
    media          what it boots from: made by cpio (an initramfs), disk (ext4), init (the guest's first process) and
                   tree (the merged layers)
    qemu           how QEMU is called
    kernel         the guest's kernel, fetched as a package
    console        what the serial port tells
    architecture   what differs from machine to machine

    python -m minicontainer.lab.vm fetch-kernel | probe | boot IMAGE -- COMMAND
"""

from __future__ import annotations

from collections.abc import Sequence

from ...images import ImageStore
from ...paths import Paths
from ...runtime.spec import Options
from .kernel import Kernel, fetch_kernel, find_kernel
from .machine import VirtualMachine
from .probe import Accelerator, probe_accelerator

__all__ = [
    "Accelerator",
    "Kernel",
    "VirtualMachine",
    "boot",
    "fetch_kernel",
    "find_kernel",
    "probe_accelerator",
]


def boot(
    paths: Paths,
    image: str,
    command: Sequence[str] = (),
    *,
    memory_mb: int = 128,
    label: str = "virtual machine",
    options: Options | None = None,
) -> VirtualMachine:
    """A virtual machine of an image, ready and not yet started: `start` it, or enter it (`with boot(…) as machine:`).

    `command`: instead of the image's; `options`: environment, user, working directory and so on, as for a container.
    Raises ImageNotFound, NotFound without a guest kernel, and what VirtualMachine and probe_accelerator raise.
    """
    kernel = find_kernel(paths)
    store = ImageStore(paths)
    found = store.resolve(image)
    accelerator = probe_accelerator(paths, kernel)
    return VirtualMachine(
        paths,
        kernel,
        store.lowers(found),
        found.config,
        command,
        accelerator=accelerator.name,
        memory_mb=memory_mb,
        label=label,
        options=options,
    )
