"""The figure of a race: what is written on it, and that it is a picture."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("matplotlib", reason="the extra [lab] isn't installed")

from matplotlib.text import Text

from minicontainer.lab.figures import Guess, Picture, compare
from minicontainer.lab.measure import Milestone
from minicontainer.lab.result import MIB, Outcome, RaceResult


@pytest.fixture
def result() -> RaceResult:
    container = Outcome("Container", "", (Milestone("workload", 0.014),), 0.014, 10 * MIB, ("6.18",))
    machine = Outcome("Virtual machine", "tcg", (Milestone("workload", 2.52),), 2.52, 204 * MIB, ("6.1",))
    return RaceResult((container, machine))


def words(picture: Picture) -> str:
    return "\n".join(text.get_text() for text in picture.figure.findobj(Text))


def test_it_names_the_accelerator_the_axis_and_the_numbers(result: RaceResult) -> None:
    shown = words(compare(result))
    for expected in (
        "machine (tcg)",
        "logarithmic",
        "linear",
        "0.014 s",
        "2.52 s",
        "10 MiB",
        "204 MiB",
        "180 ×",
        "20 ×",
    ):
        assert expected in shown
    assert compare(result).figure.axes[0].get_xscale() == "log"
    assert compare(result).figure.axes[1].get_xscale() == "linear"


def test_the_guess_is_on_it_if_there_is_one(result: RaceResult) -> None:
    assert "your guess" not in words(compare(result))
    picture = compare(result, Guess(1, 60, 50, 1000))
    assert "your guess" in words(picture)
    marks = [
        line.get_xdata()[0] for axes in picture.figure.axes for line in axes.lines if line.get_fillstyle() == "full"
    ]
    assert {1, 60, 50, 1000} <= set(marks)


def test_a_guess_says_its_ratios() -> None:
    guess = Guess(container_seconds=2, machine_seconds=60, container_mib=50, machine_mib=1000)
    assert (guess.slower, guess.larger) == (30, 20)


def test_it_is_a_png_with_a_text_that_never_changes(result: RaceResult) -> None:
    picture = compare(result)
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert repr(picture) == "Picture: start-up and memory of a container and a virtual machine"


def test_pyplot_is_not_used(result: RaceResult) -> None:
    compare(result)._repr_png_()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_a_result_unpacks_and_shows_a_table(result: RaceResult) -> None:
    container, machine = result
    assert container.start_up < machine.start_up
    assert repr(result) == "RaceResult(Container, Virtual machine)"
    html = result._repr_html_()
    assert "none needed" in html
    assert "workload <b>2.52 s</b>" in html
    assert "<b>204 MiB</b>" in html
