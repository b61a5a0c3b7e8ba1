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
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


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
        if not text.removeprefix("-").isdecimal():
            raise ValueError("it is a whole number")
        return int(text)
    if kind == NUMBER:
        try:
            return float(text)
        except ValueError:
            raise ValueError("it is a number, such as 1.5") from None
    return text


def parse_size(text: str) -> int:
    """Bytes of a size as 64m, 1.5g, 512k, 4096 or 10MiB: units are powers of 1,024. Raises ValueError.

    -1 stands for "no limit".
    """
    if text == "-1":
        return -1
    number = text.strip().lower()
    unit = ""
    if number[-1:].isalpha():
        digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = number[len(digits) :].removesuffix("ib") if number.endswith("ib") else number[len(digits) :]
        unit = unit.removesuffix("b") if len(unit) > 1 else unit
        number = digits.strip()
    whole, _, fraction = number.partition(".")
    if unit not in _UNITS or not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        raise ValueError(f"invalid size: '{text}'")
    return int(float(number) * _UNITS[unit])


def _usage(message: str, command: str) -> InvalidArgument:
    return InvalidArgument(message, hint=f"minicontainer {command} --help shows all options")


def describe(flags: tuple[Flag, ...]) -> str:
    """The options as a help text lists them."""
    rows = []
    for flag in flags:
        short = f"{flag.short}, " if flag.short else "    "
        rows.append((f"  {short}--{flag.name} {_HELP[flag.kind]}".rstrip(), flag.help))
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{left:<{width}}   {right}" for left, right in rows)
