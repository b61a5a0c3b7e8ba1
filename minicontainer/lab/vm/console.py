"""What a guest's serial console tells: the bytes come in, milestones and the workload's output come out.

Layer: lab.vm (imports measure, init). Pure: whoever reads the bytes says when they came.

    [    0.000000] Linux version 6.1…            ──▶ milestone "kernel"
    @minicontainer-TAG userspace 1.31            ──▶ milestone "userspace"
    @minicontainer-TAG run 1.40                      from here on it is the workload that speaks
    hello                                        ──▶ milestone "workload", output
    @minicontainer-TAG exit 1.45 0 0             ──▶ milestone "exit", exit code, killed for memory
    [    1.5] Kernel panic - not syncing: …      ──▶ panic

Rules: a marker may follow output that didn't end its line. Kernel lines count as output only while the workload runs;
then the guest's kernel prints nothing but a panic. The first and the latest lines are kept, what is between them isn't.
"""

from __future__ import annotations

import re

from ..measure import Milestone
from .init import CANNOT, EXIT, FAILED, RUN, USERSPACE, marker

KERNEL, WORKLOAD = "kernel", "workload"
MOST_LINES = 1000
"""Lines of output that are kept, half of them from its beginning."""
_LONGEST_LINE = 16384
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


class Console:
    """The state of one console. `feed` it all bytes, in order."""

    def __init__(self, tag: str) -> None:
        self.milestones: list[Milestone] = []
        self.output: list[str] = []
        self.exit_code: int | None = None
        self.killed = 0
        """How many processes the guest's kernel killed because its memory was full."""
        self.panic = ""
        self.failure = ""
        """What our init said when it gave up."""
        self.unrunnable = ""
        """Why the image's command can't be run."""
        self.latest = ""
        """The last line that was complete, whoever said it: what to show when nothing more comes."""
        self._marker = marker(tag).encode()
        self._running = False
        self._rest = b""

    def feed(self, data: bytes, seconds: float) -> None:
        """Take bytes that came `seconds` after the start."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line, seconds)
        if len(self._rest) > _LONGEST_LINE:  # a line without an end: taken in pieces
            self._take(self._rest, seconds)
            self._rest = b""

    def end(self, seconds: float) -> None:
        """Nothing more comes: what is left is a line."""
        if self._rest:
            self._take(self._rest, seconds)
        self._rest = b""

    def has(self, name: str) -> bool:
        """Whether a milestone was reached."""
        return any(milestone.name == name for milestone in self.milestones)

    def reach(self, name: str, seconds: float) -> None:
        """Note a milestone, unless it was reached before."""
        if not self.has(name):
            self.milestones.append(Milestone(name, seconds))

    def _take(self, line: bytes, seconds: float) -> None:
        before, found, after = line.partition(self._marker)
        if before or not found:
            self._text(before.rstrip(b"\r").decode(errors="replace"), seconds)
        if found:
            self._event(after.decode(errors="replace").split(), seconds)

    def _text(self, line: str, seconds: float) -> None:
        self.latest = line or self.latest
        panic = _PANIC.search(line)
        if panic and not self.panic:
            self.panic = panic[1]
        elif self._running and not self.panic:
            self.reach(WORKLOAD, seconds)
            self.output.append(line)
            if len(self.output) > MOST_LINES:
                del self.output[MOST_LINES // 2]
        elif "Linux version" in line:
            self.reach(KERNEL, seconds)

    def _event(self, words: list[str], seconds: float) -> None:
        event, _, *rest = *words, "", ""
        if event == USERSPACE:
            self.reach(USERSPACE, seconds)
        elif event == RUN:
            self._running = True
        elif event == FAILED:
            self.failure = " ".join(rest).strip()
        elif event == CANNOT:
            self.unrunnable = " ".join(rest).strip()
        elif event == EXIT and self.exit_code is None:
            self._running = False
            code, killed = (int(word) if word.isdigit() else 0 for word in rest[:2])
            self.exit_code, self.killed = code, killed
            self.reach(EXIT, seconds)
