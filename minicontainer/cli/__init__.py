"""The command `minicontainer`: Docker's verbs, flags, output and exit codes.

Layer: cli.

    options      command lines to values          table    values to tables
    run          run, exec                        attach   a terminal joined to a process
    containers   ps, logs, stop, kill, rm, inspect
    images       images, rmi, image bootstrap

`COMMANDS` is the list of all verbs. A verb's module is imported when it is called: `run` pays for nothing else.
"""

from __future__ import annotations

import os
import sys

from .. import __version__
from ..errors import GENERAL, CommandNotExecutable, HostError, InvalidArgument, MinicontainerError, StartFailed
from ..values import Value
from .options import HelpWanted, UsageError, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine import Engine

__all__ = ["COMMANDS", "Command", "main", "overview"]


class Command(Value):
    """One verb: its module and function here, its usage, and a line for the overview."""

    module: str
    function: str
    usage: str
    summary: str
    flags: str = ""


COMMANDS = {
    "run": Command(
        "run", "run", "run [OPTIONS] IMAGE [COMMAND] [ARG...]", "Start a process in a new container", "RUN_FLAGS"
    ),
    "exec": Command(
        "run",
        "exec_",
        "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        "Start a process in a running container",
        "EXEC_FLAGS",
    ),
    "ps": Command("containers", "ps", "ps [OPTIONS]", "List containers", "PS_FLAGS"),
    "logs": Command("containers", "logs", "logs [OPTIONS] CONTAINER", "Show what a container wrote", "LOGS_FLAGS"),
    "stop": Command("containers", "stop", "stop [OPTIONS] CONTAINER [CONTAINER...]", "Stop containers", "STOP_FLAGS"),
    "kill": Command("containers", "kill", "kill [OPTIONS] CONTAINER [CONTAINER...]", "Signal containers", "KILL_FLAGS"),
    "rm": Command("containers", "rm", "rm [OPTIONS] CONTAINER [CONTAINER...]", "Remove containers", "RM_FLAGS"),
    "inspect": Command(
        "containers", "inspect", "inspect NAME [NAME...]", "Show all about containers or images", "INSPECT_FLAGS"
    ),
    "images": Command("images", "images", "images [OPTIONS] [REPOSITORY]", "List images", "IMAGES_FLAGS"),
    "rmi": Command("images", "rmi", "rmi [OPTIONS] IMAGE [IMAGE...]", "Remove images", "RMI_FLAGS"),
    "image": Command(
        "images",
        "image",
        "image bootstrap [OPTIONS] busybox|debian",
        "Make a base image from this machine's packages",
        "BOOTSTRAP_FLAGS",
    ),
}
_INTERRUPTED = 130


def main(arguments: list[str], more: dict[str, str] | None = None) -> int:
    """Run one command line; the exit code. `more`: verbs that live elsewhere, for the overview (name → summary)."""
    _prepare_streams()
    try:
        code = _dispatch(arguments, more or {})
        if sys.stdout:
            sys.stdout.flush()
        return code
    except MinicontainerError as error:
        return _report(error, arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `minicontainer ps | head`: the reader has seen enough
        _drop_output()
        return 1
    except PermissionError as error:
        where = f": {error.filename}" if error.filename else ""
        return _report(
            HostError(f"permission denied{where}", hint="run it with sudo, or give a --root of your own"), arguments
        )
    except OSError as error:
        _drop_output()
        where = f": {error.filename}" if error.filename else ""
        hint = "free some space, or give another --root" if error.errno == 28 else "another --root may do"
        return _report(HostError(f"{(error.strerror or str(error)).lower()}{where}", hint=hint), arguments)


def _prepare_streams() -> None:
    """Have descriptors 0, 1 and 2 taken, so that no file of ours is mistaken for them, and any text be printable."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if stream:  # None where the descriptor was closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _drop_output() -> None:
    """What couldn't be written must not be tried again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _dispatch(arguments: list[str], more: dict[str, str]) -> int:
    root, arguments = _global_options(arguments)
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print(overview(more))
        return 0
    if arguments[0] in ("version", "--version", "-v"):
        print(f"minicontainer version {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in COMMANDS:
        raise InvalidArgument(f"'{verb}' is not a minicontainer command.", hint=_nearest(verb, [*COMMANDS, *more]))
    command = COMMANDS[verb]
    if sys.platform != "linux" and "--help" not in rest:
        raise HostError(
            f"containers are made of Linux, and this is {sys.platform}",
            hint="get one: Lima on a Mac (brew install lima && limactl start), WSL2 on Windows (wsl --install)",
        )
    module = __import__(f"{__name__}.{command.module}", fromlist=[command.function])
    handler: Callable[[Engine, list[str]], int] = getattr(module, command.function)
    try:
        return handler(_engine(root), rest)
    except HelpWanted:
        options = describe(getattr(module, command.flags))
        print(f"Usage:  minicontainer {command.usage}\n\n{command.summary}")
        print(f"\nOptions:\n{options}" if options else "", end="\n" if options else "")
        return 0


def _engine(root: str) -> Engine:
    """This process has one thread: it forks the monitors itself."""
    from ..engine import Engine
    from ..runtime.launcher import DirectStarter

    return Engine(root or None, DirectStarter())


def _global_options(arguments: list[str]) -> tuple[str, list[str]]:
    """`--root DIR` before the verb."""
    if not arguments or arguments[0].partition("=")[0] != "--root":
        return "", arguments
    _, equals, root = arguments[0].partition("=")
    if not equals:
        root, arguments = "".join(arguments[1:2]), arguments[1:]
    if not root:
        raise UsageError("--root needs a folder", hint="minicontainer --root /srv/lab ps")
    return root, arguments[1:]


def _report(error: MinicontainerError, arguments: list[str]) -> int:
    """Say it; exit codes as Docker's: 125 where a process was to run or the usage is wrong, 1 for other verbs."""
    print(f"minicontainer: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    if isinstance(error, UsageError) or error.exit_code != GENERAL:
        return error.exit_code
    _, rest = _global_options(arguments)
    if rest[:1] == ["exec"] and isinstance(error, (StartFailed, InvalidArgument)):  # the container is there, and runs
        return CommandNotExecutable.exit_code
    return GENERAL if rest[:1] == ["run"] else 1


def _nearest(word: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only for who mistyped

    matches = get_close_matches(word, known, n=1)
    return f"did you mean: minicontainer {matches[0]}" if matches else "minicontainer help shows all commands"


def overview(more: dict[str, str]) -> str:
    """The help text: every verb, a line each."""
    verbs = {name: command.summary for name, command in COMMANDS.items()} | more
    width = max(map(len, verbs))
    lines = [f"  {name:<{width}}   {summary}" for name, summary in verbs.items()]
    return "\n".join(
        [
            "Usage:  minicontainer [--root DIR] COMMAND [OPTIONS]",
            "",
            "A small, real container engine to learn from.",
            "",
            "Commands:",
            *lines,
            "",
            "minicontainer COMMAND --help says more. --root or MINICONTAINER_ROOT set the state folder.",
        ]
    )
