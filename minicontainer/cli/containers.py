"""The verbs for containers that are there: ps, logs, stop, kill, rm, inspect.

Layer: cli. Those that take several containers go through all of them, and report each failure, as Docker does.
"""

from __future__ import annotations

import os
import sys

from .. import linux
from ..engine import STOP_TIMEOUT, Engine
from ..errors import ContainerNotFound, ImageNotFound, IntegrityError, InvalidArgument, MinicontainerError
from ..runtime.logs import STDERR
from ..runtime.state import State
from . import table
from .options import NUMBER, SWITCH, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PS_FLAGS = (
    Flag("all", "-a", "Show all containers, not only those that run", SWITCH),
    Flag("no-trunc", "", "Show IDs and commands in full", SWITCH),
    Flag("quiet", "-q", "Show IDs only", SWITCH),
)
LOGS_FLAGS = (
    Flag("follow", "-f", "Go on until the container has ended", SWITCH),
    Flag("tail", "-n", "Number of lines to show from the end", default="all"),
    Flag("timestamps", "-t", "Show when each line was written", SWITCH),
)
STOP_FLAGS = (Flag("time", "-t", "Seconds to wait before killing it", NUMBER, default=STOP_TIMEOUT),)
KILL_FLAGS = (Flag("signal", "-s", "Signal to send", default="KILL"),)
RM_FLAGS = (Flag("force", "-f", "Remove a running container too (it is killed)", SWITCH),)
INSPECT_FLAGS: tuple[Flag, ...] = ()


def ps(engine: Engine, arguments: list[str]) -> int:
    """List containers."""
    values, rest = parse(PS_FLAGS, arguments, "ps")
    if rest:
        raise InvalidArgument('"minicontainer ps" accepts no arguments.', hint="usage: minicontainer ps [OPTIONS]")
    states = engine.states(ended=bool(values["all"]))
    digits = 64 if values["no-trunc"] else 12
    if values["quiet"]:
        for state in states:
            print(state["id"][:digits])
        return 0
    rows = []
    for state in states:
        try:
            command = engine.spec_of(state["id"])["process"]["args"]
        except ContainerNotFound:  # removed meanwhile
            continue
        except IntegrityError:
            command = []
        rows.append(
            (
                state["id"][:digits],
                state["image"],
                table.quoted(" ".join(command)) if values["no-trunc"] else table.short_command(command),
                table.age(state["created"]),
                status_of(state),
                "",
                state["name"],
            )
        )
    table.print_table(("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"), rows)
    return 0


def status_of(state: State) -> str:
    """The state in Docker's words: "Up 3 minutes", "Exited (0) 2 hours ago"."""
    if state["status"] == "running":
        return f"Up {table.duration(table.seconds_since(state['startedAt']))}"
    if state["status"] == "exited":
        return f"Exited ({state['exitCode']}) {table.age(state['finishedAt'])}"
    return str(state["status"]).capitalize()


def logs(engine: Engine, arguments: list[str]) -> int:
    """Show what a container wrote, each stream on its own."""
    values, rest = parse(LOGS_FLAGS, arguments, "logs")
    identifier = engine.find(_only(rest, "logs"))
    entries = engine.logs(identifier, follow=bool(values["follow"]))
    if values["tail"] != "all":
        if not (values["tail"].isascii() and values["tail"].isdecimal() and len(values["tail"]) < 20):
            raise InvalidArgument(f"invalid value for --tail: {values['tail']}", hint='a number, or "all"')
        count = int(values["tail"])
        past = list(engine.logs(identifier))
        skip = max(0, len(past) - count)
        entries = (entry for index, entry in enumerate(entries) if index >= skip)
    for stream, data, time in entries:
        line = f"{time} ".encode() + data if values["timestamps"] else data
        descriptor = 2 if stream == STDERR else 1
        while line:
            line = line[os.write(descriptor, line) :]
    return 0


def stop(engine: Engine, arguments: list[str]) -> int:
    """Stop containers: their stop signal first, and SIGKILL after the time."""
    values, rest = parse(STOP_FLAGS, arguments, "stop")
    return _each(rest, "stop", lambda name: engine.stop(engine.find(name), values["time"]))


def kill(engine: Engine, arguments: list[str]) -> int:
    """Send a signal to containers."""
    values, rest = parse(KILL_FLAGS, arguments, "kill")
    try:
        number = linux.signal_number(values["signal"])
    except ValueError:
        raise InvalidArgument(
            f"invalid signal: {values['signal']}", hint="a name such as TERM, or a number from 1 to 64"
        ) from None
    return _each(rest, "kill", lambda name: engine.kill(engine.find(name), number))


def rm(engine: Engine, arguments: list[str]) -> int:
    """Remove containers."""
    values, rest = parse(RM_FLAGS, arguments, "rm")
    return _each(rest, "rm", lambda name: engine.remove(engine.find(name), force=bool(values["force"])))


def _each(names: list[str], verb: str, action: Callable[[str], None]) -> int:
    """Do it to each, print the names of those that it worked for; 1 if it failed for any."""
    if not names:
        raise InvalidArgument(
            f'"minicontainer {verb}" requires at least 1 argument.',
            hint=f"usage: minicontainer {verb} [OPTIONS] CONTAINER [CONTAINER...]",
        )
    code = 0
    for name in names:
        try:
            action(name)
            print(name, flush=True)
        except MinicontainerError as error:
            report(error)
            code = 1
    return code


def report(error: MinicontainerError) -> None:
    """An error as the user sees it: one sentence, and a hint on a line of its own."""
    print(f"minicontainer: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def _only(rest: list[str], verb: str) -> str:
    if len(rest) != 1:
        raise InvalidArgument(
            f'"minicontainer {verb}" requires exactly 1 argument.',
            hint=f"usage: minicontainer {verb} [OPTIONS] CONTAINER",
        )
    return rest[0]


def inspect(engine: Engine, arguments: list[str]) -> int:
    """Everything about containers and images, as JSON."""
    import json  # not on the way of `run`

    from ..inspection import inspect_container, inspect_image

    _, rest = parse(INSPECT_FLAGS, arguments, "inspect")
    if not rest:
        raise InvalidArgument(
            '"minicontainer inspect" requires at least 1 argument.', hint="usage: minicontainer inspect NAME [NAME...]"
        )
    found, code = [], 0
    for name in rest:
        try:
            found.append(inspect_container(engine, engine.find(name)))
        except ContainerNotFound:
            try:
                found.append(inspect_image(engine, name))
            except (ImageNotFound, InvalidArgument):
                print(f"minicontainer: No such object: {name}", file=sys.stderr)
                code = 1
    print(json.dumps(found, indent=4, ensure_ascii=False))
    return code
