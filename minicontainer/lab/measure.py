"""What is measured of a start, in the same words for containers and virtual machines.

Layer: lab (imports nothing of the package). Values only, and the one way to weigh a process.

    Snapshot ──▶ milestones    what was reached, and when: ("kernel", 0.41), ("userspace", 1.7), ("workload", 1.8)
             ──▶ samples       what the host paid at which moment, in bytes
             ──▶ output        the lines that the workload printed

All seconds count from the call of `start()`, on the clock of time.perf_counter(). All bytes are the host's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Milestone:
    """Something that was reached: `seconds` after the call of start()."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Sample:
    """How much memory the host gave at a moment: PSS in bytes, `seconds` after the call of start()."""

    seconds: float
    bytes: int


@dataclass(frozen=True)
class Snapshot:
    """All that is known of a contestant at one moment. `accelerator`: "kvm", "tcg", or "" for what needs none."""

    label: str
    accelerator: str
    milestones: tuple[Milestone, ...]
    samples: tuple[Sample, ...]
    output: tuple[str, ...]
    """The lines that the workload has printed so far, without their line ends."""
    done: bool
    """Nothing more will come: it ended, failed or was stopped."""
    error: str = ""
    """One sentence, if it failed."""


class Contestant(Protocol):
    """What can be started side by side with another and watched: a container, a virtual machine."""

    label: str

    def start(self) -> None:
        """Start, and return at once. The clock runs from here."""

    def snapshot(self) -> Snapshot:
        """What is known now. Cheap, and may be called from any thread, also before the start and after the end."""
        ...

    def stop(self) -> None:
        """End and reap all that was started. May be called again, and from any thread."""


def pss(pid: int, proc: str = "/proc") -> int:
    """The proportional set size of a process, in bytes: its own pages, and its share of those it has with others.

    Source: Pss of /proc/PID/smaps_rollup (proc_pid_smaps(5)). Raises OSError: FileNotFoundError or ProcessLookupError
    if there is no such process, PermissionError if it isn't ours to look into.
    """
    with open(f"{proc}/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")
