"""`./lab bench`, `python -m minicontainer.lab.bench`: measure, print, write.

Layer: lab.bench (the top of it). Errors go to standard error as a sentence and a hint.

    a table on standard output, progress on standard error
    DIR/bench.json, DIR/bench.png        DIR: --out, or artefacts; a part (--only) doesn't replace what the whole wrote
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ...errors import HostError, InvalidArgument, MinicontainerError
from . import host, report
from .entrants import FAILURES, LABELS, Cast, reason_of
from .guest import LABEL, NAME, measure_guest
from .results import Absent, GuestRuns, Results, from_document
from .rounds import Schedule, measure
from .scene import Scene

ROUNDS, WARMUPS, STARTS = 30, 3, 3
QUICK = (5, 1, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or show one that was run: exit code 0, 1 after an error, 130 when it was interrupted."""
    given = _parser().parse_args(arguments)
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if given.markdown:
            _show(report.markdown(_read(given.markdown)))
            return 0
        results = bench(given)
        _show(report.table(results))
        _write(results, given)
        return 0 if results.rows or results.guest else 1
    except MinicontainerError as error:
        _say(f"error: {error.message}")
        if error.hint:
            _say(f"hint: {error.hint}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; all that was started has been ended and removed")
        return 130
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: object) -> None:
    """The first signal ends the benchmark; what is removed then isn't to be interrupted by a second one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./lab bench", description="Measure how long containers take to start.")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds that count ({ROUNDS}; quick: {QUICK[0]})")
    parser.add_argument("--quick", action="store_true", help="few rounds, one start of the virtual machine")
    parser.add_argument("--only", metavar="NAMES", help=f"these alone, with commas: {','.join([*LABELS, NAME])}")
    parser.add_argument("--no-docker", action="store_true", help="without Docker")
    parser.add_argument("--no-vm", action="store_true", help="without the virtual machine")
    parser.add_argument("--seed", type=int, metavar="N", help="the order of an earlier run")
    parser.add_argument(
        "--out", metavar="DIR", help="where bench.json and bench.png go (artefacts; with --only: nowhere)"
    )
    parser.add_argument("--json", metavar="FILE", help="where the numbers go instead")
    parser.add_argument("--markdown", metavar="FILE", help="print the table of an earlier run's JSON as Markdown")
    return parser


def bench(given: argparse.Namespace) -> Results:
    """Measure what was asked for. Raises InvalidArgument, HostError without root, MissingTool without busybox."""
    names = chosen(given.only, given.no_docker, given.no_vm)
    rounds, warmups, starts = QUICK if given.quick else (ROUNDS, WARMUPS, STARTS)
    rounds = rounds if given.rounds is None else given.rounds
    if rounds < 1:
        raise InvalidArgument(f"{rounds} rounds are too few", hint="--rounds 1 is the least")
    if os.geteuid() != 0:
        raise HostError("unshare, crun and runc are measured as root, and so is minicontainer", hint="sudo ./lab bench")
    seed = random.randrange(1 << 16) if given.seed is None else given.seed
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with Scene() as scene:
        machine = host.describe(scene.paths)
        if float(machine["load"]) > float(machine["cores"]):
            _say(f"this machine is busy (load {machine['load']}): expect times that are too long, and wide spreads")
        with Cast(scene) as cast:
            _say("making everything ready")
            entrants, absent = cast.entrants(names)
            _say("measuring")
            rows, failed = measure(entrants, Schedule(rounds, warmups, seed), _progress)
        absent += failed
        guest = _guest(scene, starts, absent) if NAME in names else None
    machine["load"] = f"{machine['load']} before, {host.load()} after"
    return Results(began, rounds, warmups, seed, machine, rows, tuple(absent), guest)


def chosen(only: str | None, no_docker: bool, no_vm: bool) -> list[str]:
    """The names to measure. Raises InvalidArgument for one that isn't known, or where none is left."""
    known = [*LABELS, NAME]
    names = known if only is None else [name.strip() for name in only.split(",")]
    for name in names:
        if name not in known:
            raise InvalidArgument(f"nothing to measure is called {name!r}", hint=f"there are {', '.join(known)}")
    names = [name for name in names if not (no_docker and name.startswith("docker-")) and not (no_vm and name == NAME)]
    if not names:
        raise InvalidArgument("there is nothing left to measure")
    return names


def _guest(scene: Scene, starts: int, absent: list[Absent]) -> GuestRuns | None:
    try:
        return measure_guest(scene, starts, _say)
    except FAILURES as error:
        absent.append(Absent(NAME, LABEL, reason_of(error)))
        return None


def _write(results: Results, given: argparse.Namespace) -> None:
    out = given.out or (None if given.only else "artefacts")
    numbers = Path(given.json) if given.json else Path(out, "bench.json") if out else None
    written = []
    try:
        if out:
            Path(out).mkdir(parents=True, exist_ok=True)
        if numbers:
            document = json.dumps(results.as_document(), indent=1, ensure_ascii=False)
            numbers.write_text(document + "\n", encoding="utf-8")
            written.append(str(numbers))
        if out and (results.rows or results.guest):
            from .picture import draw  # matplotlib takes longer to import than some runs take

            picture = Path(out, "bench.png")
            draw(results).savefig(picture, dpi=110)
            written.append(str(picture))
    except OSError as error:
        raise HostError(
            f"can't write {error.filename}: {error.strerror}", hint="--out DIR names another folder"
        ) from None
    if written:
        _say(f"written: {', '.join(written)}")


def _read(path: str) -> Results:
    try:
        return from_document(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidArgument(f"can't read {path}: {error.strerror}") from None
    except ValueError:
        raise InvalidArgument(f"{path} isn't JSON", hint="./lab bench --json FILE writes it") from None


def _show(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # which may not have "×"
    print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {done} of {total} ", end="" if done < total else "\n", file=sys.stderr, flush=True)
    elif done in (total, total // 2):
        _say(f"round {done} of {total}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
