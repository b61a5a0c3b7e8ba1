"""The virtual machine's starts: the same image, the same program as its first process.

Layer: lab.bench (imports scene, results, and lab.vm).

Its program reads a clock of its own, so here the first instruction is taken from outside: the moment when the program's
line arrives on the serial console, as for all other milestones (lab/vm/machine.py).
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import StartFailed
from ...paths import Paths
from ..vm import VirtualMachine, find_kernel, probe_accelerator
from .results import GuestRuns
from .scene import IMAGE, PROGRAM, Scene

NAME = "vm"
LABEL = "virtual machine"
_LIMIT = 120.0
"""Seconds from the start of a machine to its end."""


def measure_guest(scene: Scene, rounds: int, say: Callable[[str], None]) -> GuestRuns:
    """Start it so many times. Raises NotFound without a guest kernel, MissingTool without QEMU, StartFailed."""
    kept = Paths.default()  # the kernel was fetched into the user's own state folder, and is only read here
    kernel = find_kernel(kept)
    accelerator = probe_accelerator(kept, kernel)
    image = scene.engine.store.resolve(IMAGE)
    machine = VirtualMachine(
        scene.paths,
        kernel,
        scene.engine.store.lowers(image),
        image.config,
        [PROGRAM],
        accelerator=accelerator.name,
        label=LABEL,
    )
    runs = []
    for number in range(rounds):
        say(f"{LABEL} ({accelerator.name}): start {number + 1} of {rounds}")
        machine.start()
        try:
            code = machine.wait(_LIMIT)
        finally:
            machine.stop()
        if code:
            raise StartFailed(f"the program ended with exit code {code} in the {LABEL}")
        runs.append({mark.name: mark.seconds for mark in machine.snapshot().milestones})
    return GuestRuns(accelerator.name, accelerator.reason, machine.notes, tuple(runs))
