"""Each trap of nbval that the plugin closes, proven on a notebook that falls into it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("nbval", reason="the extra [lab] isn't installed")

import nbformat

pytest_plugins = ["pytester"]


@dataclass(frozen=True)
class Outcome:
    """What JUnit's XML says of one cell."""

    status: str
    message: str
    properties: dict[str, str]


class Bench:
    """Writes a notebook of a few cells, runs it, and reads what a grader would read: JUnit's XML."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.text = ""

    def run(self, *sources: str | nbformat.NotebookNode, options: tuple[str, ...] = ("--nbval-lax",)) -> list[Outcome]:
        cells = [
            source if not isinstance(source, str) else nbformat.v4.new_code_cell(source, id=f"cell-{number}")
            for number, source in enumerate(sources)
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), self.pytester.path / "trap.ipynb")
        plugin = ("-p", "minicontainer.lab.nbval_plugin", "--nbval-current-env", "--junitxml=report.xml")
        result = self.pytester.runpytest_inprocess(*plugin, *options, "trap.ipynb")
        self.text = result.stdout.str()
        return [_outcome(case) for case in ElementTree.parse(self.pytester.path / "report.xml").iter("testcase")]


def _outcome(case: ElementTree.Element) -> Outcome:
    verdicts = [child for child in case if child.tag in ("failure", "error", "skipped")]
    properties = {item.get("name", ""): item.get("value", "") for item in case.iter("property")}
    text = "".join((child.get("message") or "") + (child.text or "") for child in verdicts)
    return Outcome(verdicts[0].tag if verdicts else "passed", text, {"name": case.get("name", ""), **properties})


@pytest.fixture
def bench(pytester: pytest.Pytester) -> Bench:
    """A folder of its own for the notebook and its run."""
    return Bench(pytester)


def statuses(outcomes: list[Outcome]) -> list[str]:
    """The verdicts alone, in the order of the cells."""
    return [outcome.status for outcome in outcomes]


def test_sound_cells_pass(bench: Bench) -> None:
    outcomes = bench.run("a = 2", "assert a == 2", "print(a)")
    assert statuses(outcomes) == ["passed", "passed", "passed"]


def test_a_dead_kernel_is_noticed_and_fails_the_rest(bench: Bench) -> None:
    # With nbval alone this test would take as long as the limit for a cell, and the last cell would be "skipped".
    outcomes = bench.run("import os", "os.kill(os.getpid(), 9)", "a = 1", options=("--nbval-lax",))
    assert statuses(outcomes) == ["passed", "failure", "failure"]
    assert "died (SIGKILL)" in outcomes[1].message
    assert "Not run: the kernel died (SIGKILL) in cell 'cell-1'" in outcomes[2].message


def test_a_kernel_that_dies_between_cells_is_noticed(bench: Bench) -> None:
    late = "import os, threading; threading.Timer(0.2, os._exit, [3]).start()"
    outcomes = bench.run(late, "import time; time.sleep(30)", "a = 1")
    assert statuses(outcomes)[1:] == ["failure", "failure"]
    assert "exit status 3" in outcomes[2].message


def test_a_timeout_fails_its_cell_and_the_later_ones(bench: Bench) -> None:
    outcomes = bench.run(
        "import time", "time.sleep(60)", "a = 1", "1 / 0", options=("--nbval-lax", "--nbval-cell-timeout=1")
    )
    assert statuses(outcomes) == ["passed", "failure", "failure", "failure"]
    assert "Timeout of 1 seconds" in outcomes[1].message
    assert "Not run: cell 'cell-1' timed out" in outcomes[2].message


def test_a_cell_that_swallows_interrupts_and_prints_on_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from minicontainer.lab import nbval_plugin

    monkeypatch.setattr(nbval_plugin, "_GRACE", 1.0)
    stubborn = """
import time
while True:
    try:
        print("still here", flush=True)
        time.sleep(0.05)
    except KeyboardInterrupt:
        pass
"""
    outcomes = bench.run(stubborn, "a = 1", options=("--nbval-lax", "--nbval-cell-timeout=1"))
    assert statuses(outcomes) == ["failure", "failure"]
    assert "Failed to interrupt" in outcomes[0].message


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("%no_such_magic", id="a magic that doesn't exist"),
        pytest.param("get_ipython().showtraceback = lambda *a, **k: None\n1 / 0", id="a replaced showtraceback"),
    ],
)
def test_an_error_that_shows_no_traceback_fails(bench: Bench, source: str) -> None:
    outcomes = bench.run(source, "a = 1")
    assert statuses(outcomes) == ["failure", "passed"]
    assert "The kernel answered with" in outcomes[0].message


def test_an_announced_exception_must_come(bench: Bench) -> None:
    tag = {"tags": ["raises-exception"]}
    raises = nbformat.v4.new_code_cell("1 / 0", id="raises", metadata=tag)
    silent = nbformat.v4.new_code_cell("1 / 1", id="silent", metadata=tag)
    outcomes = bench.run(raises, silent)
    assert statuses(outcomes) == ["passed", "failure"]
    assert "raised none" in outcomes[1].message


def test_a_checked_output_needs_an_execution_count(bench: Bench) -> None:
    output = nbformat.v4.new_output("stream", name="stdout", text="2\n")
    source = "# NBVAL_CHECK_OUTPUT\nprint(1 + 1)"
    counted = nbformat.v4.new_code_cell(source, id="counted", execution_count=1, outputs=[output])
    wrong = nbformat.v4.new_code_cell("# NBVAL_CHECK_OUTPUT\nprint(3)", id="wrong", execution_count=2, outputs=[output])
    never = nbformat.v4.new_code_cell(source, id="never")
    outcomes = bench.run(counted, wrong, never)
    assert statuses(outcomes) == ["passed", "failure", "failure"]
    assert "no execution count" in outcomes[2].message


def test_what_child_processes_print_reaches_the_cell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "an outer test")
    outcomes = bench.run("import os; assert 'PYTEST_CURRENT_TEST' not in os.environ")
    assert statuses(outcomes) == ["passed"]


def test_cells_are_named_by_their_ids_and_carry_their_points(bench: Bench) -> None:
    graded = nbformat.v4.new_code_cell("assert False", id="task-one", metadata={"minicontainer": {"points": 3}})
    (outcome,) = bench.run(graded)
    assert outcome.properties == {"name": "task-one", "cell_id": "task-one", "points": "3"}
    assert "trap.ipynb, cell 'task-one'" in bench.text


def test_a_skipped_cell_says_why(bench: Bench) -> None:
    (outcome,) = bench.run("# NBVAL_SKIP\n1 / 0")
    assert outcome.status == "skipped"
    assert "NBVAL_SKIP" in outcome.message


def test_the_kernel_may_clean_up_at_its_end(bench: Bench) -> None:
    mark = bench.pytester.path / "said-goodbye"
    bench.run(f"import atexit, pathlib\n_ = atexit.register(pathlib.Path({str(mark)!r}).touch)")
    assert mark.exists()


def test_no_process_of_the_kernels_group_outlives_it(bench: Bench) -> None:
    note = bench.pytester.path / "child"
    script = f"trap '' TERM; echo $$ > {note}; exec sleep 300"
    outcomes = bench.run(
        f"import subprocess\nchild = subprocess.Popen(['sh', '-c', {script!r}])",
        f"import pathlib, time\nwhile not pathlib.Path({str(note)!r}).exists(): time.sleep(0.01)",
        "import os\nos._exit(1)",
    )
    assert statuses(outcomes) == ["passed", "passed", "failure"]
    assert not _is_running(int(note.read_text()), "sleep")


def _is_running(pid: int, name: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return name in state[0] and state[1].split()[0] != "Z"
