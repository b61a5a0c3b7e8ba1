"""`minicontainer run` and `minicontainer exec`: start a process in a new container, or in a running one.

Layer: cli.
"""

from __future__ import annotations

import os

from ..engine import Engine
from ..errors import InvalidArgument, MinicontainerError
from ..runtime.spec import Options
from .attach import Attachment, hold_signals
from .options import INTEGER, MANY, NUMBER, SIZE, SWITCH, CallError, Flag, describe, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COMMON = (
    Flag("env", "-e", "Set environment variables (NAME=value, or NAME to take it from here)", MANY),
    Flag("interactive", "-i", "Keep standard input open", SWITCH),
    Flag("tty", "-t", "Give it a terminal", SWITCH),
    Flag("user", "-u", "User name or number (and group): USER[:GROUP]", default=""),
    Flag("workdir", "-w", "Working directory inside the container", default=""),
)
RUN_FLAGS = (
    *_COMMON,
    Flag("cpu-shares", "-c", "Share of processor time when it is scarce (1024 is one share)", INTEGER),
    Flag("cpus", "", "Number of CPUs, such as 0.5", NUMBER),
    Flag("cpuset-cpus", "", "CPUs to run on, such as 0-2,7", default=""),
    Flag("cpuset-mems", "", "Memory nodes to use, such as 0", default=""),
    Flag("detach", "-d", "Run in the background, and print the container's ID", SWITCH),
    Flag("dry-run", "", "Print the plan as shell commands, and do nothing", SWITCH),
    Flag("entrypoint", "", "Replace the image's entry point"),
    Flag("hostname", "-h", "Host name inside the container", default=""),
    Flag("memory", "-m", "Memory limit, such as 64m", SIZE),
    Flag("memory-swap", "", "Limit of memory and swap together; -1 for endless swap", SIZE),
    Flag("name", "", "Name of the container", default=""),
    Flag("network", "", "Network: none, or host", default="none"),
    Flag("pids-limit", "", "Limit of processes and threads; -1 for none", INTEGER),
    Flag("read-only", "", "Make the root file system read-only", SWITCH),
    Flag("rm", "", "Remove the container when it has ended", SWITCH),
    Flag("security-opt", "", "Security options: no-new-privileges", MANY),
    Flag("userns", "", "User namespace: host, or private", default=""),
)
EXEC_FLAGS = _COMMON
RUN_USAGE = "minicontainer run [OPTIONS] IMAGE [COMMAND] [ARG...]"
EXEC_USAGE = "minicontainer exec [OPTIONS] CONTAINER COMMAND [ARG...]"


def run(engine: Engine, arguments: list[str]) -> int:
    """Make a container and start it; its exit code is ours."""
    values, rest = parse(RUN_FLAGS, arguments, "run", interspersed=False)
    if not rest:
        raise CallError('"minicontainer run" requires at least 1 argument.', hint=f"usage: {RUN_USAGE}")
    options = _options(values, rest[1:])
    if values["dry-run"]:
        print(engine.dry_run(rest[0], options), end="")
        return 0
    _check_terminal(values)
    identifier = engine.create(rest[0], options, values["name"], hold=hold_signals)
    try:
        client = engine.start(identifier, attached=not values["detach"])
    except MinicontainerError:
        if values["rm"]:
            engine.remove(identifier)
        raise
    if values["detach"]:
        print(identifier)
        return 0
    return Attachment(client, stdin=values["interactive"], tty=values["tty"]).run()


def exec_(engine: Engine, arguments: list[str]) -> int:
    """Run another process in a running container; its exit code is ours."""
    values, rest = parse(EXEC_FLAGS, arguments, "exec", interspersed=False)
    if len(rest) < 2:
        raise CallError('"minicontainer exec" requires at least 2 arguments.', hint=f"usage: {EXEC_USAGE}")
    _check_terminal(values)
    options = Options(
        command=tuple(rest[1:]),
        environment=_environment(values["env"]),
        working_directory=values["workdir"],
        user=values["user"],
        tty=bool(values["tty"]),
        stdin=bool(values["interactive"]),
    )
    identifier = engine.find(rest[0])
    hold_signals()
    client = engine.exec(identifier, options)
    return Attachment(client, stdin=values["interactive"], tty=values["tty"]).run()


def _options(values: dict[str, Any], command: list[str]) -> Options:
    entrypoint = values["entrypoint"]
    return Options(
        command=tuple(command),
        entrypoint=None if entrypoint is None else (entrypoint,) if entrypoint else (),
        environment=_environment(values["env"]),
        working_directory=values["workdir"],
        user=values["user"],
        hostname=values["hostname"],
        tty=bool(values["tty"]),
        stdin=bool(values["interactive"]),
        read_only=bool(values["read-only"]),
        network=values["network"],
        no_new_privileges=_no_new_privileges(values["security-opt"]),
        user_namespace=_user_namespace(values["userns"]),
        memory=values["memory"],
        memory_swap=values["memory-swap"],
        cpus=values["cpus"],
        cpu_shares=values["cpu-shares"],
        cpuset_cpus=values["cpuset-cpus"],
        cpuset_mems=values["cpuset-mems"],
        pids_limit=None if values["pids-limit"] in (None, -1, 0) else values["pids-limit"],
        auto_remove=bool(values["rm"]),
    )


def _environment(entries: list[str]) -> tuple[str, ...]:
    """`NAME` alone takes the value that this command has, or leaves the name out where it has none."""
    result = []
    for entry in entries:
        if "=" not in entry and entry in os.environ:
            entry = f"{entry}={os.environ[entry]}"
        result.append(entry)
    return tuple(result)


def _no_new_privileges(entries: list[str]) -> bool:
    known = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
    for entry in entries:
        if entry not in known:
            raise InvalidArgument(f"invalid --security-opt: {entry!r}", hint="there is one: no-new-privileges")
    return bool(entries)


def _user_namespace(word: str) -> bool:
    """A normal user's container is always in a user namespace of its own; root asks for one."""
    if word not in ("", "host", "private"):
        raise InvalidArgument(f"invalid --userns: {word!r}", hint="there are two: host and private")
    return word == "private" or os.geteuid() != 0


def _check_terminal(values: dict[str, Any]) -> None:
    if values["tty"] and not values.get("detach") and not os.isatty(0):
        raise CallError("the input device is not a TTY", hint="leave -t out where standard input is no terminal")


def help_of(command: str) -> str:
    """The help text of `run` or `exec`."""
    usage, flags = (RUN_USAGE, RUN_FLAGS) if command == "run" else (EXEC_USAGE, EXEC_FLAGS)
    return f"Usage:  {usage}\n\nOptions:\n{describe(flags)}"
