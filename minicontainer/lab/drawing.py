"""The race as a picture: snapshots in, one SVG string out.

Layer: lab. Pure: the same snapshots give the same string, so the picture
is tested as text, redrawn live by putting the string into a widget, and shown as it is where there is no kernel.

    ┌ title ──────────────────────────────────── clock ┐
    │ ● name    ▨██████████████████████████████  0.014 s│   a lane: starting (hatched), application runs (solid)
    │   how      ╲__magnified_________________          │   a lens under it, where its start is too short to be seen
    │           [ ▨▨▨▨▨▨▨|███████████████ 40 ms ]       │
    │ ◆ name    ▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨██████████  2.52 s │
    │   how       | hypervisor  | kernel    | workload  │
    │           0 ────── 1 ────── 2 ────── 3 seconds    │
    │ memory    curves on the same seconds       MiB    │
    └ verdict ─────────────────────────────────────────┘

Rules: a contestant is told by its name, its mark's shape and its place, never by colour alone; hatching means "still
starting" for all. Text and background take JupyterLab's theme where it is there, and are dark on white elsewhere. Sizes
are for a 1040 wide picture that is seen from the last row: no text below 20.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from html import escape

from .measure import Snapshot
from .result import MIB, finish, peak, seconds, times, verdict

WIDTH = 1040
_LEFT, _RIGHT = 236, 826  # the plot's edges; names stand left of it, results right
_PLOT = _RIGHT - _LEFT
_BAR = 34
_ROW = 27  # from one row of labels to the next
_LENS = 26  # height of the glass between a bar and its magnified beginning
_LANE = 166  # room for four rows of labels: a picture that grows while it is live makes the page jump
_LABEL_ROOM = 0.7  # how far along its axis the last milestone may be: the label stands at its right

TITLE = "One image, two ways to start it"
_INK = "fill:var(--jp-content-font-color1,#1c1c1c)"
_PAPER = "fill:var(--jp-layout-color0,#ffffff)"
_LINE = "stroke:var(--jp-border-color1,#b0b0b0)"
_COLOURS = ("#1f83c4", "#d9640b", "#3c9a4b", "#9b5fc0")
_MARKS = ("M0-9a9 9 0 1 0 .01 0z", "M0-11 11 0 0 11-11 0z", "M-8-8H8V8H-8z", "M0-10 10 8H-10z")  # ● ◆ ■ ▲
_ACCELERATORS = {
    "": ("the host’s kernel", ""),
    "kvm": ("accelerator: kvm", "on the CPU itself"),
    "tcg": ("accelerator: tcg", "CPU in software"),
}


def draw(snapshots: Sequence[Snapshot], elapsed: float, title: str = TITLE, note: str = "") -> str:
    """The picture of a race `elapsed` seconds after its start, as SVG (one string, its own width and height).

    Each snapshot is a lane, top down; its milestone "workload" is where its application answered. `note` says at the
    foot what state the race is in.
    """
    last = max([elapsed, *(mark.seconds for shot in snapshots for mark in shot.milestones)])
    reach = max([_reach(shot) for shot in snapshots], default=0.0)
    scale = _Scale(nice(max(last * 1.04, reach / _LABEL_ROOM, 1.0)))
    parts = [_text(24, 46, title, 30, bold=True), _text(WIDTH - 24, 46, f"{elapsed:.1f} s", 34, "end", bold=True)]
    y = 76.0
    for place, shot in enumerate(snapshots):
        lane, height = _lane(shot, place, scale, elapsed, y)
        parts += lane
        y += height
    parts += _axis(scale, y)
    y += 60
    parts += _memory(snapshots, scale, y)
    y += 190
    parts += [*_legend(y), _text(WIDTH - 24, y, note, 21, "end")]
    parts.append(_text(WIDTH / 2, y + 44, verdict(tuple(snapshots)), 28, "middle", bold=True))
    return _document(parts, y + 62, snapshots, title)


def nice(value: float) -> float:
    """The next round number from `value` on: 1, 1.5, 2, 3, 4, 5, 6, 8 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


class _Scale:
    """Seconds to x, on the plot's width."""

    def __init__(self, high: float) -> None:
        self.high = high

    def x(self, value: float) -> float:
        return _LEFT + _PLOT * min(1.0, max(0.0, value / self.high))

    def ticks(self) -> list[float]:
        step = nice(self.high / 5.01)
        return [n * step for n in range(int(self.high / step + 1e-9) + 1)]


def _reach(shot: Snapshot) -> float:
    return max((mark.seconds for mark in shot.milestones), default=0.0)


def _lane(shot: Snapshot, place: int, scale: _Scale, elapsed: float, y: float) -> tuple[list[str], float]:
    parts = [*_name(shot, place, y), _bar(shot, place, scale, elapsed, y)]
    finished = finish(shot)
    if finished is not None:
        parts.append(_text(_RIGHT + 18, y + 30, seconds(finished), 38, bold=True))
    if shot.error:
        lines = textwrap.wrap(f"✗ {shot.error}", 66)[:4]
        return parts + [_text(_LEFT, y + _BAR + 30 + _ROW * n, line, 21) for n, line in enumerate(lines)], _LANE
    if finished is not None and scale.x(finished) - _LEFT < _PLOT * 0.12:
        lens, rows = _lens(shot, place, scale, y + _BAR)
        return parts + lens, max(_LANE, _LENS + 2 * _BAR + 8 + rows * _ROW)
    labels, rows = _labels(shot, place, scale, y + _BAR, seconds)
    return parts + labels, max(_LANE, _BAR + 8 + rows * _ROW)


def _name(shot: Snapshot, place: int, y: float) -> list[str]:
    """At the left of a lane: its mark and name, and what runs it."""
    parts = [_mark(38, y + 17, place)]
    for line in textwrap.wrap(shot.label, 12)[:2]:
        parts.append(_text(58, y + 26, line, 27, bold=True))
        y += 31
    how, detail = _ACCELERATORS.get(shot.accelerator, (f"accelerator: {shot.accelerator}", ""))
    return [*parts, _text(24, y + 25, how, 20), _text(24, y + 50, detail, 20)]


def _bar(shot: Snapshot, place: int, scale: _Scale, now: float, y: float) -> str:
    """The lane's bar: hatched while starting, solid from the moment that the application runs."""
    finished = finish(shot)
    middle = scale.x(now if finished is None else min(finished, scale.high))
    end = middle if finished is None else max(middle, scale.x(now))
    box = f'<rect x="{{:.1f}}" y="{y:.0f}" width="{{:.1f}}" height="{_BAR}" {{}}/>'
    return (
        box.format(_LEFT, _PLOT, f'rx="3" style="fill:none;{_LINE}"')
        + box.format(_LEFT, middle - _LEFT, f'fill="url(#mc-hatch-{place % 4})"')
        + box.format(middle, end - middle, f'fill="{_COLOURS[place % 4]}"')
    )


def _lens(shot: Snapshot, place: int, scale: _Scale, y: float) -> tuple[list[str], int]:
    """The first milliseconds of a lane, magnified to the width of the plot, with an axis of their own."""
    close = _Scale(nice(_reach(shot) / _LABEL_ROOM))
    edge, top = scale.x(close.high), y + _LENS
    glass = f"M{_LEFT} {y:.0f}H{edge:.1f}L{_RIGHT} {top:.0f}H{_LEFT}z"
    labels, rows = _labels(shot, place, close, top + _BAR, lambda value: f"{value * 1000:.0f} ms")
    power = times(scale.high / close.high).replace(" ×", "")
    parts = [
        f'<path d="{glass}" style="{_LINE};fill:{_COLOURS[place % 4]};fill-opacity:.13"/>',
        _bar(shot, place, close, close.high, top),
        *labels,
        _text(_RIGHT + 18, top + 24, f"magnified {power} ×", 20),
        _text(_RIGHT + 18, top + 50, f"(to {close.high * 1000:.0f} ms)", 20),
    ]
    return parts, rows


def _labels(shot: Snapshot, place: int, scale: _Scale, y: float, unit: Callable[[float], str]) -> tuple[list[str], int]:
    """Each milestone's mark on the bar that ends at `y`, and its label under it, in as many rows as they need.

    Placed from the right: a label that has no room moves a row down. It may cross neither the labels of its row nor
    the lines that lead to lower ones.
    """
    parts: list[str] = []
    starts: list[float] = []  # of each row, the x where its leftmost label begins
    for mark in reversed(shot.milestones):
        x = scale.x(mark.seconds)
        end = x + 16 + 12.4 * len(f"{mark.name} {unit(mark.seconds)}")
        row = next((n for n in range(len(starts)) if end <= min(starts[n:])), len(starts))
        starts[row : row + 1] = [x]
        low = y + 20 + row * _ROW
        parts += [
            f'<path d="M{x:.1f} {y - _BAR:.0f}V{low:.0f}" style="{_LINE};stroke-width:2"/>',
            _mark(x, y - _BAR / 2, place, outlined=True),
            _text(x + 7, low, mark.name, 21, tail=unit(mark.seconds)),
        ]
    return parts, len(starts)


def _axis(scale: _Scale, y: float) -> list[str]:
    parts = [f'<path d="M{_LEFT} {y:.0f}H{_RIGHT}" style="{_LINE};stroke-width:2"/>']
    for tick in scale.ticks():
        x = scale.x(tick)
        parts.append(f'<path d="M{x:.1f} {y:.0f}v8" style="{_LINE};stroke-width:2"/>')
        parts.append(_text(x, y + 30, f"{tick:g} s" if tick == 0 else f"{tick:g}", 20, "middle"))
    parts.append(_text(_RIGHT + 18, y + 30, "since the start", 20))
    return parts


def _memory(snapshots: Sequence[Snapshot], scale: _Scale, y: float) -> list[str]:
    """Memory over the same seconds: a curve a contestant, its mark at the end, its latest value at the right."""
    height = 140.0
    most = nice(max([8.0, *(peak(shot) / MIB * 1.08 for shot in snapshots)]))
    parts = [_text(24, y + 22, "Memory", 27, bold=True), _text(24, y + 51, "MiB on the host", 20)]
    parts.append(_text(24, y + 76, "(PSS)", 20))
    for level in (0.0, most / 2, most):
        line = y + height * (1 - level / most)
        parts.append(f'<path d="M{_LEFT} {line:.1f}H{_RIGHT}" style="{_LINE}"/>')
        parts.append(_text(_LEFT - 8, line + 7, f"{level:g}", 20, "end"))
    below = y + height + 36  # the next value's baseline has to stay above this
    order = sorted(enumerate(snapshots), key=lambda item: item[1].samples[-1].bytes if item[1].samples else 0)
    for place, shot in order:
        if not shot.samples:
            continue
        points = [(scale.x(one.seconds), y + height * (1 - one.bytes / MIB / most)) for one in shot.samples]
        path = "L".join(f"{x:.1f} {line:.1f}" for x, line in points)
        x, line = points[-1]
        dash = "" if place == 0 else f";stroke-dasharray:{4 + 8 * place} 6"
        style = f"fill:none;stroke:{_COLOURS[place % 4]};stroke-width:4{dash}"
        below = min(line + 11, below - 36)
        parts += [f'<path d="M{path}" style="{style}"/>', _mark(x, line, place, outlined=True)]
        parts += [_mark(_RIGHT + 28, below - 10, place)]
        parts.append(_text(_RIGHT + 46, below, f"{shot.samples[-1].bytes / MIB:.0f} MiB", 30, bold=True))
    return parts


def _legend(y: float) -> list[str]:
    box = '<rect x="{}" y="{:.0f}" width="34" height="20" rx="2" style="{}"/>'
    return [
        box.format(24, y - 18, "fill:url(#mc-hatch-ink)"),
        _text(66, y, "starting", 21),
        box.format(160, y - 18, "fill:var(--jp-content-font-color1,#1c1c1c);opacity:.7"),
        _text(202, y, "application runs", 21),
    ]


def _mark(x: float, y: float, place: int, outlined: bool = False) -> str:
    """A contestant's own shape; outlined in the background's colour where it lies on something."""
    edge = "stroke:var(--jp-layout-color0,#ffffff);stroke-width:2;paint-order:stroke" if outlined else ""
    at = f'transform="translate({x:.1f} {y:.1f})"'
    return f'<path d="{_MARKS[place % 4]}" {at} style="fill:{_COLOURS[place % 4]};{edge}"/>'


def _text(
    x: float, y: float, content: str, size: int, anchor: str = "start", bold: bool = False, tail: str = ""
) -> str:
    """A line of text at its baseline; `tail` follows it in bold."""
    if not content:
        return ""
    weight = ' font-weight="700"' if bold else ""
    bold_tail = f' <tspan font-weight="700">{escape(tail)}</tspan>' if tail else ""
    where = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight}'
    return f'<text {where} style="{_INK}">{escape(content)}{bold_tail}</text>'


def _document(parts: list[str], height: float, snapshots: Sequence[Snapshot], title: str) -> str:
    hatches = "".join(_hatch(str(place), _COLOURS[place % 4]) for place in range(min(4, len(snapshots))))
    hatches += _hatch("ink", "var(--jp-content-font-color1,#1c1c1c)")
    words = "; ".join(describe(shot) for shot in snapshots)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'role="img" aria-label="{escape(words)}" class="mc-race" '
        "style=\"width:100%;max-width:1500px;height:auto;font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif\">"
        f"<title>{escape(title)}</title><defs>{hatches}</defs>"
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="10" style="{_PAPER}"/>{"".join(parts)}</svg>'
    )


def _hatch(name: str, colour: str) -> str:
    line = f'<path d="M0 0V12" style="stroke:{colour};stroke-width:9"/>'
    turn = 'patternUnits="userSpaceOnUse" width="12" height="12" patternTransform="rotate(45)"'
    return f'<pattern id="mc-hatch-{name}" {turn}>{line}</pattern>'


def describe(shot: Snapshot) -> str:
    """A contestant in words: what the picture says to those who don't see it."""
    marks = ", ".join(f"{mark.name} after {seconds(mark.seconds)}" for mark in shot.milestones) or "not started"
    memory = f", {shot.samples[-1].bytes / MIB:.0f} MiB" if shot.samples else ""
    accelerator = f" ({shot.accelerator})" if shot.accelerator else ""
    return f"{shot.label}{accelerator}: {marks}{memory}" + (f", failed: {shot.error}" if shot.error else "")
