"""The result of a race as a figure, beside what the learner had guessed.

Layer: lab. Drawn with matplotlib's `Figure` and its Agg canvas, never with pyplot: pyplot keeps figures in a table
that is meant for one thread, and a notebook's callbacks have several.

    compare(result, guess) -> Picture        two panels: start-up on a logarithmic axis, memory on a linear one
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .result import MIB, Outcome, RaceResult, seconds, times

_COLOURS = ("#1f83c4", "#d9640b")
_HATCHES = ("", "//")
_SHAPES = ("o", "D")
_SIZE = 15  # points: read from the last row


@dataclass(frozen=True)
class Guess:
    """What the learner expects, before the race: seconds until the application answers, and MiB of memory."""

    container_seconds: float
    machine_seconds: float
    container_mib: float
    machine_mib: float

    @property
    def slower(self) -> float:
        """How many times longer the virtual machine takes."""
        return self.machine_seconds / self.container_seconds

    @property
    def larger(self) -> float:
        """How many times more memory it takes."""
        return self.machine_mib / self.container_mib


class Picture:
    """A figure that a notebook shows as it is, with a text that stays the same from run to run."""

    def __init__(self, figure: Figure, text: str) -> None:
        self.figure, self.text = figure, text

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.text


def compare(result: RaceResult, guess: Guess | None = None) -> Picture:
    """Start-up and memory of a container and a virtual machine (in this order), with the guess as hollow marks."""
    machine = result.outcomes[1]
    figure = Figure(figsize=(12.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _start_up(left, result, (guess.container_seconds, guess.machine_seconds) if guess else ())
    _memory(right, result, (guess.container_mib, guess.machine_mib) if guess else ())
    for axes in (left, right):
        axes.set_ylim(1.5, -0.6)  # the container above
        axes.tick_params(labelsize=_SIZE - 2)
        axes.spines[["top", "right"]].set_visible(False)
    accelerator = machine.accelerator or "no accelerator"
    figure.suptitle(f"One image as a container and as a virtual machine ({accelerator})", fontsize=_SIZE + 4)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=_SIZE - 1, frameon=False)
    return Picture(figure, "Picture: start-up and memory of a container and a virtual machine")


def _start_up(axes: Axes, result: RaceResult, guessed: Sequence[float]) -> None:
    """Points, not bars: a logarithmic axis has no zero from which the length of a bar could begin."""
    measured = [outcome.start_up for outcome in result]
    axes.set_xscale("log")
    axes.set_xlim(min([*measured, *guessed]) / 4, max([*measured, *guessed]) * 25)
    axes.grid(axis="x", alpha=0.4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for place, value in enumerate(measured):
        label = "measured" if place == 0 else None
        axes.plot(value, place, _SHAPES[place], color=_COLOURS[place], markersize=18, label=label, linestyle="none")
        _write(axes, value, place, seconds(value), (0, 24), "center")
    _guesses(axes, guessed, 0.0)
    axes.set_yticks([0, 1], [_named(outcome) for outcome in result], fontsize=_SIZE)
    axes.set_xlabel("seconds to the first line (logarithmic: ×10 a line)", fontsize=_SIZE - 1)
    axes.set_title(f"Start-up: the machine takes {times(measured[1] / measured[0])}", fontsize=_SIZE + 2)


def _memory(axes: Axes, result: RaceResult, guessed: Sequence[float]) -> None:
    measured = [outcome.memory / MIB for outcome in result]
    for place, value in enumerate(measured):
        axes.barh(place, value, height=0.42, color=_COLOURS[place], hatch=_HATCHES[place], edgecolor="black")
        _write(axes, value, place, f"{value:.0f} MiB", (16, 0), "left")
    _guesses(axes, guessed, -0.32)
    axes.set_xlim(0, max([*measured, *guessed]) * 1.35)
    axes.set_yticks([0, 1], ["", ""])
    axes.set_xlabel("MiB on the host (PSS, linear)", fontsize=_SIZE - 1)
    axes.set_title(f"Memory: the machine takes {times(measured[1] / measured[0])}", fontsize=_SIZE + 2)


def _guesses(axes: Axes, guessed: Sequence[float], above: float) -> None:
    for place, value in enumerate(guessed):
        label = "your guess" if place == 0 else None
        style: dict[str, Any] = {
            "markersize": 18,
            "markerfacecolor": "none",
            "markeredgecolor": "black",
            "markeredgewidth": 2.5,
        }
        axes.plot(value, place + above, _SHAPES[place], linestyle="none", label=label, zorder=4, **style)


def _write(axes: Axes, value: float, place: int, text: str, offset: tuple[float, float], align: str) -> None:
    """The value beside its mark: a reader shouldn't have to go to the axis and back."""
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": _SIZE, "fontweight": "bold"}
    axes.annotate(text, (value, place), xytext=offset, ha=align, **style)


def _named(outcome: Outcome) -> str:
    return f"{outcome.label}\n({outcome.accelerator or 'host’s kernel'})"
