"""Command lines as Docker reads them: `-it`, `--name=x`, `--name x`, and all behind the image is the command's.

Layer: cli.

    flags = (Flag("detach", "-d", "Run in the background …", kind=SWITCH), Flag("env", "-e", …, kind=MANY))
    values, rest = parse(flags, ["-de", "A=1", "busybox", "ls", "-l"], "run")
    values == {"detach": True, "env": ["A=1"], …}        rest == ["busybox", "ls", "-l"]

Why not argparse: it knows neither where the command's own options begin nor Docker's error texts, and costs a start
11 ms. Rule: errors of usage exit with 125, as Docker's do.
"""

from __future__ import annotations

from ..errors import InvalidArgument
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SWITCH = "switch"
TEXT = "text"
MANY = "many"
SIZE = "size"
INTEGER = "integer"
NUMBER = "number"

_HELP = {SWITCH: "", TEXT: "string", MANY: "list", SIZE: "bytes", INTEGER: "int", NUMBER: "decimal"}
_ENDLESS = float("inf")
_LARGEST_SIZE = (1 << 63) - 1  # bytes: what the specification can say
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


class UsageError(InvalidArgument):
    """A command line that can't be read. Exits with 125, as Docker's do, whatever the verb."""


class CallError(InvalidArgument):
    """One that can be read and not followed: arguments are missing, or a terminal for -t. Docker's exit with 1."""

    exit_code = 1


class HelpWanted(Exception):
    """`--help` stands among a verb's own arguments."""


class Flag(Value):
    """One option: its long name without dashes, its short one with a dash or "", what the help says, what it takes."""

    name: str
    short: str
    help: str
    kind: str = TEXT
    default: Any = None

    @property
    def label(self) -> str:
        """Both names, as the help and errors show them."""
        return f"{self.short}, --{self.name}" if self.short else f"--{self.name}"


def parse(
    flags: tuple[Flag, ...], arguments: list[str], command: str, interspersed: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Split a command line into the values of its flags and the rest.

    Unless `interspersed`, the first argument that is no flag ends them: `run busybox ls -l` leaves -l to ls.
    """
    values: dict[str, Any] = {flag.name: [] if flag.kind == MANY else flag.default for flag in flags}
    long = {f"--{flag.name}": flag for flag in flags}
    short = {flag.short: flag for flag in flags if flag.short}
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return values, rest + waiting
        if word == "--help":
            raise HelpWanted
        if word.startswith("--"):
            name, equals, text = word.partition("=")
            if name not in long:
                raise _usage(f"unknown flag: {name}", command)
            _take(values, long[name], text if equals else None, waiting, command)
        elif word.startswith("-") and word != "-":
            _take_short(values, short, word, waiting, command)
        else:
            rest.append(word)
            if not interspersed:
                return values, rest + waiting
    return values, rest


def _take_short(values: dict[str, Any], short: dict[str, Flag], word: str, waiting: list[str], command: str) -> None:
    """`-it` is two switches; `-eA=1` and `-e=A=1` are an option with its value."""
    letters = word[1:]
    while letters:
        flag, letters = short.get(f"-{letters[0]}"), letters[1:]
        if flag is None:
            raise _usage(f"unknown shorthand flag: '{word[-len(letters) - 1]}' in {word}", command)
        if flag.kind == SWITCH and not letters.startswith("="):
            values[flag.name] = True
        else:
            _take(values, flag, letters.removeprefix("=") if letters else None, waiting, command)
            return


def _take(values: dict[str, Any], flag: Flag, text: str | None, waiting: list[str], command: str) -> None:
    if text is None and flag.kind == SWITCH:
        values[flag.name] = True
        return
    if text is None:
        if not waiting:
            raise _usage(f"flag needs an argument: {flag.label.split(', ')[-1]}", command)
        text = waiting.pop(0)
    try:
        value = _convert(flag.kind, text)
    except ValueError as error:
        raise _usage(f'invalid argument "{text}" for "{flag.label}" flag: {error}', command) from None
    if flag.kind == MANY:
        values[flag.name].append(value)
    else:
        values[flag.name] = value


def _convert(kind: str, text: str) -> object:
    if kind == SWITCH:
        if text.lower() not in ("1", "t", "true", "0", "f", "false"):
            raise ValueError("it is true or false")
        return text.lower() in ("1", "t", "true")
    if kind == SIZE:
        return parse_size(text)
    if kind == INTEGER:
        if not _is_digits(text.removeprefix("-")):
            raise ValueError("it is a whole number")
        return int(text)
    if kind == NUMBER:
        try:
            number = float(text)
        except ValueError:
            number = _ENDLESS
        if not -_ENDLESS < number < _ENDLESS:  # neither endless nor "not a number"
            raise ValueError("it is a number, such as 1.5")
        return number
    return text


def parse_size(text: str) -> int:
    """Bytes of a size as 64m, 1.5g, 512k, 4096 or 10MiB: units are powers of 1,024. Raises ValueError.

    -1 stands for "no limit".
    """
    if text == "-1":
        return -1
    word = text.strip().lower()
    digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = word[len(digits) :]
    for ending in ("ib", "b"):  # "b" alone is bytes, "mb" and "mib" are "m"
        if len(unit) == len(ending) + 1 and unit.endswith(ending) and unit[0] != "b":
            unit = unit[0]
    whole, _, fraction = digits.strip().partition(".")
    if unit not in _UNITS or not _is_digits(whole) or (fraction and not _is_digits(fraction)):
        raise ValueError(f"invalid size: '{text}'")
    size = int(whole) * _UNITS[unit] + int(float(f"0.{fraction or 0}") * _UNITS[unit])
    if size > _LARGEST_SIZE:
        raise ValueError(f"invalid size: '{text}'")
    return size


def _is_digits(text: str) -> bool:
    """ASCII digits, and no more of them than a number of 64 bits has."""
    return text.isascii() and text.isdecimal() and len(text) < 20


def _usage(message: str, command: str) -> UsageError:
    return UsageError(message, hint=f"minicontainer {command} --help shows all options")


def describe(flags: tuple[Flag, ...]) -> str:
    """The options as a help text lists them."""
    rows = []
    for flag in flags:
        short = f"{flag.short}, " if flag.short else "    "
        rows.append((f"  {short}--{flag.name} {_HELP[flag.kind]}".rstrip(), flag.help))
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{left:<{width}}   {right}" for left, right in rows)
