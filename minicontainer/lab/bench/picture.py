"""Results as a picture: horizontal bars from zero, with the quartiles as whiskers.

Layer: lab.bench (imports results, report). Drawn on matplotlib's Agg canvas, without pyplot.

Above, what takes milliseconds; below, where there is any, what takes a hundred times as long, beside two rows from
above that show the scale. Two bars a row: to the first instruction, and, paler, to the end.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .report import MS, number
from .results import Results, Row, Spread, spread

_OURS, _OTHERS = "#1f83c4", "#8a8a8a"
_SIZE = 12  # points
_SLOW = ("docker-host", "docker-none", "vm")
_FOR_SCALE = ("warm", "command")


@dataclass(frozen=True)
class Bars:
    """A row of the picture, in milliseconds."""

    name: str
    label: str
    first: Spread
    exit: Spread | None


def bars(results: Results) -> list[Bars]:
    """All rows, the fastest first, the virtual machine's last."""
    found = sorted(map(_bars, results.rows), key=lambda row: row.first.median)
    if results.guest:
        marks = {name: [run[name] * 1000 for run in results.guest.runs] for name in results.guest.milestones()}
        if "workload" in marks:
            label = f"virtual machine ({results.guest.accelerator})"
            ending = spread(marks["exit"]) if "exit" in marks else None
            found.append(Bars("vm", label, spread(marks["workload"]), ending))
    return found


def _bars(row: Row) -> Bars:
    first, ending = ([time / MS for time in times] for times in (row.first, row.exit))
    return Bars(row.name, row.label, spread(first), spread(ending) if ending else None)


def panels(found: Sequence[Bars]) -> list[list[Bars]]:
    """The rows of each panel: what is fast; what is slow, with two of the fast for scale."""
    fast = [row for row in found if row.name not in _SLOW]
    slow = [row for row in found if row.name in _SLOW]
    if not fast or not slow:
        return [list(found)] if found else []
    return [fast, [row for row in fast if row.name in _FOR_SCALE] + slow]


def draw(results: Results) -> Figure:
    """The picture. Raises ValueError where there is nothing to show."""
    shown = panels(bars(results))
    if not shown:
        raise ValueError("no results to draw")
    rows = [len(panel) for panel in shown]
    figure = Figure(figsize=(12, 2.4 + 0.62 * sum(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(len(shown), 1, squeeze=False, height_ratios=rows)[:, 0], shown, strict=True):
        _panel(axes, panel)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=_SIZE, frameon=False)
    figure.suptitle("From the call to a process in a container", x=0.01, ha="left", fontsize=_SIZE + 4)
    facts = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    caption = f"Bars: median; whiskers: quartiles; {results.rounds} rounds. {facts}. {results.began[:10]}"
    figure.supxlabel("\n".join(textwrap.wrap(caption, 150)), fontsize=_SIZE - 3, color="#444444")
    return figure


def _panel(axes: Axes, rows: Sequence[Bars]) -> None:
    widest = max((row.exit or row.first).upper for row in rows)
    for place, row in enumerate(rows):
        colour = _OURS if row.name in ("warm", "start", "command") else _OTHERS
        _bar(axes, place - 0.2, row.first, colour, 1.0, "to the first instruction", widest)
        if row.exit:
            _bar(axes, place + 0.2, row.exit, colour, 0.45, "to the end", widest)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=_SIZE)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, widest * 1.12)
    axes.set_xlabel("milliseconds", fontsize=_SIZE - 1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _bar(axes: Axes, place: float, found: Spread, colour: str, alpha: float, label: str, widest: float) -> None:
    """A bar with its whiskers and its number. Named for the legend once: where a panel's first row is drawn."""
    whiskers = [[found.median - found.lower], [found.upper - found.median]]
    named = label if label not in axes.get_legend_handles_labels()[1] else None
    axes.barh(place, found.median, height=0.36, color=colour, alpha=alpha, label=named)
    axes.errorbar(found.median, place, xerr=whiskers, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    axes.annotate(
        number(found.median),
        (max(found.upper, found.median + 0.004 * widest), place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=_SIZE - 2,
    )
