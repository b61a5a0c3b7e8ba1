"""How tables, times and sizes look: Docker's way.

Layer: cli.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST_COMMAND = 20


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, each as wide as its widest cell and three spaces."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        print("   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def seconds_since(moment: str) -> float:
    """Seconds from an RFC 3339 time to now. Raises ValueError where it is none."""
    from datetime import datetime  # not on the way of `run`

    return max(0.0, time.time() - datetime.fromisoformat(moment).timestamp())


def age(moment: str) -> str:
    """How long ago a moment was; N/A for what is no moment."""
    try:
        return f"{duration(seconds_since(moment))} ago"
    except ValueError:
        return "N/A"


def duration(seconds: float) -> str:
    """A length of time in words: "About a minute", "3 hours"."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    if seconds < 120:
        return "About a minute"
    if seconds < 3600:
        return f"{int(seconds // 60)} minutes"
    hours = int(seconds / 3600 + 0.5)  # rounded, where all others are cut off
    if hours < 2:
        return "About an hour"
    for limit, unit, size in ((48, "hours", 1), (14 * 24, "days", 24), (60 * 24, "weeks", 7 * 24)):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // (30 * 24)} months" if hours < 2 * 365 * 24 else f"{hours // (365 * 24)} years"


def size(count: int) -> str:
    """Bytes in three digits and powers of 1,000: 4.27MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g}{unit}"


def short_command(arguments: list[str]) -> str:
    """A command as `ps` shows it: in quotes, cut to 20 characters."""
    text = " ".join(arguments)
    return quoted(f"{text[: _LONGEST_COMMAND - 1]}…" if len(text) > _LONGEST_COMMAND else text)


def quoted(text: str) -> str:
    """In double quotes, with an escape for whatever could disturb a terminal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    safe = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in escaped)
    return f'"{"".join(safe)}"'
