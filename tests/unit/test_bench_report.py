"""Results as a table, as Markdown and as a picture."""

from __future__ import annotations

import io

import pytest

from minicontainer.lab.bench import picture, report
from minicontainer.lab.bench.entrants import LABELS
from minicontainer.lab.bench.results import Absent, GuestRuns, Pair, Results, Row

MS = 1_000_000


def row(name: str, first: list[float], end: list[float] | None = None) -> Row:
    """A row of times in milliseconds."""
    times = [tuple(int(value * MS) for value in values) for values in (first, end or [])]
    return Row(name, LABELS[name], "9.9", f"about {name}", *times)


def results(*rows: Row, **changes) -> Results:
    guest = GuestRuns("tcg", "no kvm here", ("one processor",), ({"kernel": 0.5, "workload": 2.0, "exit": 2.5},) * 3)
    values = {"absent": (Absent("runc", "runc run", "runc isn't installed (./lab peers)"),), "guest": guest}
    machine = {"processor": "Zilog Z80", "load": "0.1 before, 0.2 after"}
    return Results("2025-01-31T12:00:00Z", 3, 1, 7, machine, rows, **{**values, **changes})


FULL = results(
    row("unshare", [2, 2, 2], [3, 4, 5]),
    row("warm", [3, 3.2, 3.4], [4, 4, 4]),
    row("start", [2, 3, 4]),
    row("crun", [6.4, 6.4, 6.4], [8, 8, 8]),
    row("docker-none", [240, 250, 260], [300, 305, 310]),
)


@pytest.mark.parametrize(
    ("value", "text"), [(0.7123, "0.71"), (3.24, "3.2"), (27.41, "27.4"), (305.4, "305"), (2480.4, "2,480")]
)
def test_a_number_has_the_digits_that_it_can_bear(value, text):
    assert report.number(value) == text


def cells(text: str, name: str) -> list[str]:
    """The cells of the table's row of this name."""
    line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
    return line.removeprefix(name).strip().removeprefix(LABELS[name]).split()


def test_each_row_has_median_quartiles_least_and_ratio():
    text = report.table(FULL)
    assert cells(text, "unshare") == ["2.0", "2.0–2.0", "2.0", "1.0", "4.0", "3.5–4.5", "3.0", "1.0"]
    assert cells(text, "warm") == ["3.2", "3.1–3.3", "3.0", "1.6", "4.0", "4.0–4.0", "4.0", "1.0"]
    assert cells(text, "start") == ["3.0", "2.5–3.5", "2.0", "1.5", "–"]


def test_columns_stand_below_each_other():
    lines = report.table(FULL).splitlines()
    rows = [line for line in lines if line.split(" ")[0] in LABELS]
    assert {line.index(LABELS[line.split(" ")[0]]) for line in rows} == {len("docker-none") + 2}
    assert all(len(line) <= report.WIDTH for line in lines)


def test_pairs_tell_whether_their_aim_is_met():
    text = report.table(FULL)
    (line,) = [line for line in text.splitlines() if line.startswith("  warm / unshare")]
    assert line.split()[3:7] == ["1.6", "(1.6–1.6)", "1.0", "(0.90–1.2)"]
    assert line.endswith("aim: start below 2, met")
    assert "warm / runc" not in text
    assert report.verdict(FULL, Pair("warm", "crun", 0.5)) == "missed"  # which is not below
    assert report.verdict(FULL, Pair("warm", "crun", 0.51)) == "met"
    assert report.verdict(FULL, Pair("warm", "crun")) == report.verdict(FULL, Pair("warm", "runc", 1)) == ""


def test_the_machine_what_is_absent_and_what_to_know_are_told():
    text = report.table(FULL)
    assert text.startswith("processor Zilog Z80, load 0.1 before, 0.2 after\n3 rounds after 1 to warm up")
    assert "\nnot measured\n  runc: runc run: runc isn't installed (./lab peers)\n" in text
    assert "\n  crun (9.9): about crun\n" in text
    assert "\n  vm: no kvm here; one processor\n" in text


def test_the_virtual_machine_names_its_accelerator_and_milestones():
    text = report.table(FULL)
    assert "\nvirtual machine, seconds; accelerator tcg; 3 starts" in text
    assert "  the program's line     2.0    2.0–2.0    2.0\n" in text
    assert "  to the program's line: 625 × minicontainer, warm: run (medians)\n" in text


def test_a_table_of_little_has_no_empty_parts():
    alone = report.table(results(row("warm", [3, 3, 3], [4, 4, 4]), absent=(), guest=None))
    assert cells(alone, "warm")[3] == "–"
    for part in ("pair by pair", "virtual machine", "not measured", "\n\n\n"):
        assert part not in alone
    assert "not measured" in report.table(results(guest=None))


def test_markdown_is_a_table_with_the_machine_below():
    lines = report.markdown(FULL).splitlines()
    assert lines[:2] == [
        "| | first instruction, ms | × `unshare` | end, ms | × `unshare` |",
        "|---|---:|---:|---:|---:|",
    ]
    assert "| minicontainer, warm: run | 3.2 (3.1–3.3) | 1.6 | 4.0 (4.0–4.0) | 1.0 |" in lines
    assert "| minicontainer, warm: start | 3.0 (2.5–3.5) | 1.5 | – | – |" in lines
    assert "| `crun run` | 6.4 (6.4–6.4) | 3.2 | 8.0 (8.0–8.0) | 2.0 |" in lines
    assert "| virtual machine (QEMU, tcg) | 2,000 (2,000–2,000) | 1,000 | 2,500 (2,500–2,500) | 625 |" in lines
    assert {line.count("|") for line in lines if line.startswith("|")} == {6}
    assert "processor Zilog Z80; load 0.1 before, 0.2 after. Measured 2025-01-31." in lines[-3]
    assert lines[-1] == "Not measured: runc run (runc isn't installed (./lab peers))."


def test_markdown_does_without_what_is_absent():
    text = report.markdown(results(row("warm", [3, 3, 3]), absent=()))
    assert "| virtual machine (QEMU, tcg) | 2,000 (2,000–2,000) | – | 2,500 (2,500–2,500) | – |" in text
    assert "Not measured" not in text


def test_what_takes_a_hundred_times_as_long_has_a_panel_of_its_own():
    names = [[bar.name for bar in panel] for panel in picture.panels(picture.bars(FULL))]
    assert names == [["unshare", "start", "warm", "crun"], ["warm", "docker-none", "vm"]]
    alone = results(row("crun", [6]), row("unshare", [2]), guest=None)
    assert [[bar.name for bar in panel] for panel in picture.panels(picture.bars(alone))] == [["unshare", "crun"]]
    only_guest = picture.panels(picture.bars(results()))
    assert [[bar.name for bar in panel] for panel in only_guest] == [["vm"]]


def test_the_picture_shows_medians_as_bars_from_zero_and_names_the_machine():
    figure = picture.draw(FULL)
    upper = figure.axes[0]
    bars = {round(bar.get_y() + bar.get_height() / 2, 1): (bar.get_x(), bar.get_width()) for bar in upper.patches}
    assert bars[-0.2] == (0, 2.0)  # unshare to the first instruction
    assert bars[0.2] == (0, 4.0)  # and to the end
    assert [text.get_text() for text in upper.get_yticklabels()][:2] == [LABELS["unshare"], LABELS["start"]]
    assert "Zilog Z80" in figure.get_supxlabel()
    assert "3 rounds" in figure.get_supxlabel()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_there_is_no_picture_of_nothing():
    with pytest.raises(ValueError, match="no results"):
        picture.draw(results(guest=None))
