"""Every chapter runs from fresh, every cell of it passes, and twice in a row: the first run leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("nbval", reason="the extra [lab] isn't installed")

import nbformat

CHECKOUT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((CHECKOUT / "notebooks").glob("[0-9]*.ipynb"))
LIMIT = 900
"""Seconds for a chapter, with a virtual machine in software on a slow machine."""


@pytest.mark.kernel
@pytest.mark.guest
@pytest.mark.parametrize("run", ["from fresh", "again"])
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_cell_of_the_chapter_passes(chapter: Path, run: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    command = [
        *(sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={CHECKOUT}", "-p", "no:cacheprovider"),
        *("-p", "minicontainer.lab.nbval_plugin", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"),
        *("--color=no", "-q", f"--junitxml={report}", str(chapter)),
    ]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(tmp_path), text=True, capture_output=True, timeout=LIMIT, check=False
    )
    verdicts = {
        case.get("name"): next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        for case in ElementTree.parse(report).iter("testcase")
    }
    cells = [cell["id"] for cell in nbformat.read(chapter, as_version=4).cells if cell.cell_type == "code"]
    assert verdicts == dict.fromkeys(cells, "passed"), f"{run}:\n{done.stdout}\n{done.stderr}"


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, with folders of its own for what Jupyter and matplotlib write for themselves."""
    mine = {name: str(folder / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    return {**os.environ, **mine, "MPLCONFIGDIR": str(folder / "matplotlib"), "PYTHONPATH": str(CHECKOUT)}
