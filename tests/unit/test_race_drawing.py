"""The picture of a race is a pure function of snapshots: what it shows is read from its SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from minicontainer.lab.drawing import WIDTH, draw, nice
from minicontainer.lab.measure import Milestone, Sample, Snapshot
from minicontainer.lab.result import MIB, seconds, times

SVG = "{http://www.w3.org/2000/svg}"


def shot(
    label: str = "Container",
    accelerator: str = "",
    milestones: tuple[tuple[str, float], ...] = (),
    memory: tuple[tuple[float, float], ...] = (),
    error: str = "",
) -> Snapshot:
    marks = tuple(Milestone(name, moment) for name, moment in milestones)
    samples = tuple(Sample(moment, int(mib * MIB)) for moment, mib in memory)
    return Snapshot(label, accelerator, marks, samples, (), any(name == "workload" for name, _ in milestones), error)


CONTAINER = shot(milestones=(("process", 0.009), ("workload", 0.0142)), memory=((0.2, 9.0), (4.0, 9.8)))
MACHINE = shot(
    "Virtual machine",
    "tcg",
    (("hypervisor", 0.06), ("kernel", 0.91), ("userspace", 2.31), ("workload", 2.518)),
    ((0.2, 40.0), (2.0, 150.0), (4.0, 204.0)),
)


def parse(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def lines(svg: str) -> list[str]:
    """Every line of text in the picture, top down as it is written."""
    return ["".join(text.itertext()) for text in parse(svg).iter(f"{SVG}text")]


def bars(svg: str, place: int) -> list[tuple[float, float]]:
    """Where the hatched and the solid part of a lane's own bar end: [(hatched, solid), …], its lens after it."""
    colours = ("#1f83c4", "#d9640b")
    ends: dict[str, list[float]] = {"hatch": [], "solid": []}
    for box in parse(svg).iter(f"{SVG}rect"):
        end = float(box.get("x", "0")) + float(box.get("width", "0"))
        if box.get("fill") == f"url(#mc-hatch-{place})":
            ends["hatch"].append(end)
        if box.get("fill") == colours[place]:
            ends["solid"].append(end)
    return list(zip(ends["hatch"], ends["solid"], strict=True))


def test_it_names_everything_with_its_numbers() -> None:
    words = lines(draw([CONTAINER, MACHINE], 4.1))
    for expected in (
        "4.1 s",  # the clock
        "0.014 s",
        "2.52 s",  # the results
        "process 9 ms",
        "workload 14 ms",  # the container's milestones, in the lens
        "hypervisor 0.060 s",
        "kernel 0.910 s",
        "userspace 2.31 s",
        "workload 2.52 s",
        "accelerator: tcg",
        "the host’s kernel",
        "10 MiB",
        "204 MiB",
        "Virtual machine: 180 × the time, 21 × the memory",
    ):
        assert expected in words


def test_a_lane_is_hatched_until_its_application_runs() -> None:
    early = draw([shot(milestones=(("process", 0.9),)), MACHINE], 2.0)
    ((hatched, solid),) = bars(early, 0)
    assert hatched == solid  # nothing runs yet
    ((hatched, solid),) = bars(draw([CONTAINER, MACHINE], 4.1), 1)
    assert hatched < solid


def test_a_start_too_short_to_be_seen_is_magnified() -> None:
    fast = draw([CONTAINER, MACHINE], 4.1)
    assert len(bars(fast, 0)) == 2  # the lane and its lens
    assert len(bars(fast, 1)) == 1
    assert any(line.startswith("magnified") for line in lines(fast))
    slow = draw([shot(milestones=(("workload", 2.0),)), MACHINE], 4.1)
    assert not any(line.startswith("magnified") for line in lines(slow))


def test_nothing_is_promised_before_it_has_happened() -> None:
    words = lines(draw([shot(), shot("Virtual machine", "tcg")], 0.0))
    assert "0.0 s" in words
    assert not [line for line in words if "workload" in line or ("MiB" in line and line != "MiB on the host")]
    assert "×" not in "".join(words)


def test_the_size_stays_while_the_race_goes_on() -> None:
    sizes = {parse(draw([CONTAINER, MACHINE], moment)).get("viewBox") for moment in (0.1, 4.1)} | {
        parse(draw([shot(), shot("Virtual machine", "tcg")], 0.0)).get("viewBox")
    }
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("marks", "elapsed"),
    [
        pytest.param(
            (("hypervisor", 0.5), ("kernel", 0.51), ("userspace", 0.52), ("workload", 0.54)), 1.0, id="crowded"
        ),
        pytest.param((("hypervisor", 0.06), ("kernel", 0.91), ("userspace", 2.3), ("workload", 2.5)), 4.1, id="spread"),
        pytest.param((("hypervisor", 0.06), ("kernel", 0.7), ("userspace", 4.3), ("workload", 5.9)), 7.9, id="wide"),
        pytest.param((("hypervisor", 0.02), ("kernel", 0.09), ("userspace", 0.3), ("workload", 0.31)), 2.4, id="kvm"),
    ],
)
def test_labels_never_overlap_and_stay_inside(marks: tuple[tuple[str, float], ...], elapsed: float) -> None:
    root = parse(draw([CONTAINER, shot("VM", "kvm", marks, ((0.2, 90.0),))], elapsed))
    boxes = []
    for text in root.iter(f"{SVG}text"):
        size, words = float(text.get("font-size", 0)), "".join(text.itertext())
        if text.get("text-anchor") == "start":
            x, y = float(text.get("x", 0)), float(text.get("y", 0))
            boxes.append((x, y - size * 0.8, x + size * 0.5 * len(words), y + size * 0.1, words))
    # The lines that lead to labels are boxes as well, half a pixel wide.
    for path in root.iter(f"{SVG}path"):
        if line := re.fullmatch(r"M(\d+\.\d) (\d+)V(\d+)", path.get("d", "")):
            x, top, low = (float(number) for number in line.groups())
            boxes.append((x, top, x + 0.5, low, f"the line at {x}"))
    for number, (left, top, right, bottom, words) in enumerate(boxes):
        assert right <= WIDTH, words
        for other in boxes[number + 1 :]:
            assert other[0] >= right or other[2] <= left or other[1] >= bottom or other[3] <= top, (words, other[4])


def test_colour_is_never_the_only_sign() -> None:
    svg = draw([CONTAINER, MACHINE], 4.1)
    shapes = {
        (path.get("style") or "")[:12]: path.get("d")
        for path in parse(svg).iter(f"{SVG}path")
        if path.get("transform") and "#" in (path.get("style") or "")[:12]
    }
    assert len(shapes) == 2
    assert len(set(shapes.values())) == 2
    assert "stroke-dasharray" in svg


def test_text_is_large_and_takes_the_themes_colour() -> None:
    root = parse(draw([CONTAINER, MACHINE], 4.1))
    for text in root.iter(f"{SVG}text"):
        assert float(text.get("font-size", 0)) >= 20
        assert "var(--jp-content-font-color1,#" in (text.get("style") or "")


def test_a_failure_is_shown_in_its_lane_and_escaped() -> None:
    failed = shot("Virtual <machine>", "kvm", error="no QEMU here: install qemu-system-x86 & try again " * 4)
    words = lines(draw([CONTAINER, failed], 1.0))
    assert any(line.startswith("✗ no QEMU here: install qemu-system-x86 & try again") for line in words)
    assert parse(draw([CONTAINER, failed], 1.0)).get("aria-label", "").count("failed: no QEMU here") == 1


def test_it_says_in_words_what_it_shows() -> None:
    words = parse(draw([CONTAINER, MACHINE], 4.1)).get("aria-label")
    assert words is not None
    assert words.startswith("Container: process after 0.009 s, workload after 0.014 s, 10 MiB; Virtual machine (tcg): ")


def test_the_same_race_gives_the_same_string() -> None:
    assert draw([CONTAINER, MACHINE], 4.1) == draw([CONTAINER, MACHINE], 4.1)
    assert not re.search(r"\d\.\d{4}", draw([CONTAINER, MACHINE], 4.123456789))


@pytest.mark.parametrize(
    ("value", "expected"), [(0.014, 0.015), (1.0, 1.0), (1.01, 1.5), (2.518, 3.0), (6.5, 8.0), (81.0, 100.0)]
)
def test_axes_end_at_round_numbers(value: float, expected: float) -> None:
    assert nice(value) == pytest.approx(expected)


@pytest.mark.parametrize(("ratio", "text"), [(1.4, "1.4 ×"), (9.96, "10.0 ×"), (177.3, "180 ×"), (2143, "2100 ×")])
def test_ratios_have_two_digits_that_mean_something(ratio: float, text: str) -> None:
    assert times(ratio) == text


@pytest.mark.parametrize(("value", "text"), [(0.0142, "0.014 s"), (2.518, "2.52 s"), (18.31, "18.3 s")])
def test_times_have_the_digits_that_they_can_bear(value: float, text: str) -> None:
    assert seconds(value) == text
