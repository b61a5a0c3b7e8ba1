"""The commands of `python -m minicontainer.lab.vm`: fetch a kernel, probe the accelerator, boot an image.

Layer: lab.vm (the top of it). Errors go to standard error as a sentence and a hint.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from ...errors import MinicontainerError, StartFailed
from ...paths import Paths
from . import boot, fetch_kernel, probe_accelerator
from .machine import VirtualMachine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is the workload's for `boot`, else 0, or 1 after an error (125 for `boot`)."""
    parser = argparse.ArgumentParser(prog="python -m minicontainer.lab.vm", description="Virtual machines of images.")
    parser.add_argument("--root", default=None, help="the state folder (default: MINICONTAINER_ROOT, or the engine's)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch-kernel", help="fetch the distribution's kernel for guests, as a package")
    fetch.add_argument("--modules", action="store_true", help="keep its modules too")
    verbs.add_parser("probe", help="find out, by booting, whether KVM works")
    start = verbs.add_parser("boot", help="boot an image and show what it prints")
    start.add_argument("--memory", type=int, default=128, metavar="MIB", help="the guest's memory in MiB (128)")
    start.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="end it after that time")
    start.add_argument("image")
    start.add_argument("command", nargs=argparse.REMAINDER, help="after --, instead of the image's own")
    given = parser.parse_args(arguments)
    paths = Paths.default(given.root)
    try:
        if given.verb == "fetch-kernel":
            fetch_kernel(paths, _say, modules=given.modules)
        elif given.verb == "probe":
            accelerator = probe_accelerator(paths)
            print(f"{accelerator.name}: {accelerator.reason}")
        else:
            command = given.command[1:] if given.command[:1] == ["--"] else given.command
            return _run(boot(paths, given.image, command, memory_mb=given.memory), given.timeout)
    except MinicontainerError as error:
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"hint: {error.hint}")
        return error.exit_code if given.verb == "boot" else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(machine: VirtualMachine, timeout: float | None) -> int:
    """Boot, copy the workload's output, and tell what it took."""
    shown = 0
    deadline = time.monotonic() + timeout if timeout is not None else None
    with machine:
        done = False
        while not done:
            time.sleep(0.05)
            shot = machine.snapshot()
            done = shot.done or (deadline is not None and time.monotonic() > deadline)
            for line in shot.output[shown:]:
                print(line, flush=True)
            shown = len(shot.output)
        shot = machine.snapshot()
    marks = "  ".join(f"{mark.name} {mark.seconds:.2f} s" for mark in shot.milestones)
    peak = max((sample.bytes for sample in shot.samples), default=0) / (1 << 20)
    _say(f"[{shot.accelerator}] {marks}  memory (PSS) {peak:.0f} MiB")
    if machine.exit_code is None:
        raise StartFailed(shot.error or f"the machine was ended after {timeout:g} s")
    if shot.error:
        _say(f"error: {shot.error}")
    return machine.exit_code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
