"""Our end of the stopwatch: hand it a command, get the times.

Layer: lab.bench (imports results, errors; starts stopwatch.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...errors import HostError, StartFailed
from .results import Sample

LIMIT = 60.0
"""Seconds that one command may take."""
_PROGRAM = str(Path(__file__).with_name("stopwatch.py"))


def now() -> int:
    """CLOCK_MONOTONIC in nanoseconds: the stopwatch's clock, and the timed program's."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Stopwatch:
    """The process that starts commands and takes their times. `wrapper`: a command to start it through."""

    def __init__(self, wrapper: Sequence[str] = ()) -> None:
        # What it starts may be in the middle of something when a person presses Ctrl-C: it is no business of theirs.
        self._process = subprocess.Popen(
            [*wrapper, os.path.realpath(sys.executable), "-I", "-S", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def measure(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Sample:
        """Run a command whose output is the timed program's. `environment`: what is added to ours.

        Raises StartFailed where it fails, or prints anything else than a time.
        """
        request = {"command": list(command), "environment": {**os.environ, **(environment or {})}, "limit": LIMIT}
        answer = self._ask(request)
        name = os.path.basename(command[0])
        if answer["status"] != 0:
            said = (str(answer["errors"]).strip() or "it said nothing").splitlines()[-1]
            killed = f"it took longer than {LIMIT:g} s" if answer["status"] == -9 else said
            raise StartFailed(f"{name} failed (exit code {answer['status']}): {killed}")
        return Sample(moment(str(answer["output"]), name) - answer["began"], answer["ended"] - answer["began"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise HostError("the stopwatch process has ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise HostError(f"the stopwatch process has ended (exit code {self._process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, once the command that it may be at has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()
        self._process.stdout.close()


def moment(output: str, name: str) -> int:
    """The time that the timed program printed. Raises StartFailed for anything else."""
    text = output.strip()
    if not text.isdigit():
        raise StartFailed(f"{name} printed {text[:80]!r} instead of the time of the first instruction")
    return int(text)
