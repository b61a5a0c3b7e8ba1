"""`minicontainer doctor`: what this machine can do, and what to type where it can't.

Layer: lab.

    examine(paths) -> Report            a row for each thing that containers or the course need
    main(arguments) -> exit code        the same as a command: a table, or --json

    findings     the rows, as text, HTML and JSON
    host         the machine: roots, user, programs
    trials       what is tried for real, in a process of its own
    containers   rows of the kernel: namespaces, control groups, overlay, user namespaces
    machine      rows of the rest: Python, nft, QEMU, KVM, memory, disk

Rules: nothing on the machine is changed. What can be tried is tried, and the trial decides; settings only explain it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys

from ...paths import Paths
from .findings import Finding, Report

__all__ = ["Finding", "Report", "examine", "main"]

NOT_LINUX = "minicontainer needs Linux, since a container's walls are made of the Linux kernel"
ELSEWHERE = {
    "darwin": "brew install lima && limactl start --name=default && limactl shell default",
    "win32": "wsl --install   # WSL2; then open Ubuntu from the start menu",
}
"""How to get a Linux, by sys.platform."""


def examine(paths: Paths | None = None) -> Report:
    """Look at this machine. Takes about a second; the first time up to ten, since a virtual machine is booted."""
    if sys.platform != "linux":
        return elsewhere(sys.platform)
    from . import containers, machine  # these need Linux to be imported
    from .host import Host

    host = Host.here(paths or Paths.default())
    rows = [
        containers.kernel(host),
        machine.python(host),
        *containers.namespaces(host),
        containers.user_namespaces(host),
        containers.user_ranges(host),
        *containers.control_groups(host),
        containers.overlay(host),
        machine.nft(host),
        machine.qemu(host),
        machine.kvm(host),
        machine.memory(host),
        machine.disk(host),
    ]
    system = host.distribution.get("PRETTY_NAME", "a Linux of unknown name")
    return Report(f"{system}, {host.machine}, as {host.user}", tuple(rows))


def elsewhere(platform: str) -> Report:
    """The report on a machine that doesn't run Linux: what to do about it."""
    name = {"darwin": "macOS", "win32": "Windows"}.get(platform, platform)
    ways = ELSEWHERE.get(platform) or "\n".join(ELSEWHERE.values())
    return Report(name, (Finding("system", "missing", f"{NOT_LINUX}: on {name}, in a small virtual machine", ways),))


def main(arguments: list[str]) -> int:
    """Print the report. The exit code is 1 if no container can start here, else 0."""
    parser = argparse.ArgumentParser(
        prog="minicontainer doctor", description="Check what this machine can do, and how to mend what it can't."
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--root", metavar="FOLDER", help="the state folder (default: MINICONTAINER_ROOT, or the user's)"
    )
    options = parser.parse_args(arguments)
    report = examine(Paths.default(options.root))
    if options.json:
        print(json.dumps(report.as_document(), indent=2, ensure_ascii=False))
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        shown = report.text(min(shutil.get_terminal_size((100, 24)).columns, 100), colour)
        encoding = sys.stdout.encoding or "utf-8"
        print(shown.encode(encoding, "replace").decode(encoding))
    return 0 if report.can_run else 1
