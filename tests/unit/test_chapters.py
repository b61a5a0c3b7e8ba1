"""The form of the chapters as they are saved: what a reader on a web page sees, and what keeps reviews readable."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbformat", reason="the extra [lab] isn't installed")

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
LONGEST_CELL = 12
WORDS_PER_LINE = (7, 10)
LARGEST = 400_000  # bytes of a chapter with its pictures


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def code(chapter: Any) -> list[Any]:
    return [cell for cell in chapter.cells if cell.cell_type == "code"]


def lines(cell: Any) -> list[str]:
    return [line for line in cell.source.splitlines() if line.strip()]


def test_there_are_chapters() -> None:
    assert CHAPTERS[0].name == "00-the-race.ipynb"


def test_it_is_a_valid_notebook(chapter: Any) -> None:
    nbformat.validate(chapter)
    assert (chapter.nbformat, chapter.nbformat_minor) == (4, 5)


def test_cells_have_names_for_ids(chapter: Any) -> None:
    for cell in chapter.cells:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell.id), cell.id
        assert not re.fullmatch(r"[0-9a-f]{8,}", cell.id), f"{cell.id} is a random id"


def test_every_cell_was_run_in_order(chapter: Any) -> None:
    assert [cell.execution_count for cell in code(chapter)] == list(range(1, len(code(chapter)) + 1))


def test_code_comes_in_small_pieces(chapter: Any) -> None:
    assert {cell.id: len(lines(cell)) for cell in code(chapter) if len(lines(cell)) > LONGEST_CELL} == {}
    runs = [len(list(run)) for kind, run in groupby(cell.cell_type for cell in chapter.cells) if kind == "code"]
    assert max(runs) <= 2


def test_prose_and_code_are_in_balance(chapter: Any) -> None:
    prose = " ".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    words = len(re.findall(r"\w[\w'’.-]*", prose))
    low, high = WORDS_PER_LINE
    assert low <= words / sum(len(lines(cell)) for cell in code(chapter)) <= high


def test_no_widget_and_no_error_was_saved(chapter: Any) -> None:
    assert "widgets" not in chapter.metadata
    for cell in code(chapter):
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert not [kind for kind in output.get("data", {}) if "widget" in kind], cell.id


def test_a_live_view_was_saved_as_a_picture(chapter: Any) -> None:
    live = [cell for cell in code(chapter) if "race.start()" in cell.source]
    for cell in live:
        (output,) = cell.outputs
        assert "finished" in output.data["image/svg+xml"]
        assert output.data["text/plain"].startswith("Race(")


def test_nothing_of_the_machine_that_saved_it_is_in_it(chapter: Any) -> None:
    assert set(chapter.metadata) == {"kernelspec", "language_info"}
    assert set(chapter.metadata.language_info) == {"name"}
    for cell in chapter.cells:
        assert set(cell.metadata) <= {"minicontainer", "tags"}, cell.id
    text = nbformat.writes(chapter)
    assert not re.search(r"/(work|home|root|tmp)/", text)
    assert len(text) < LARGEST


def test_no_marker_hides_a_cell_from_the_tests(chapter: Any) -> None:
    for cell in code(chapter):
        assert not re.search(r"NBVAL_(SKIP|IGNORE_OUTPUT)|PYTEST_VALIDATE_IGNORE", cell.source), cell.id


def test_the_last_code_cell_proves_that_nothing_leaked(chapter: Any) -> None:
    last = code(chapter)[-1]
    assert "leftovers(" in last.source
    assert "assert not" in last.source
