"""Lint, format, types and layers: the tools that say so, each on the checkout and each on something wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PYTHON_FILES = ("minicontainer", "tests")


def run(*command: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment in `folder`, with its packages found in `path`."""
    environment = {**os.environ, "NO_COLOR": "1", **({"PYTHONPATH": str(path)} if path else {})}
    command = (str(BIN / command[0]), *command[1:])
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def expect_success(result: subprocess.CompletedProcess[str]) -> None:
    """Fail with what the tool printed, and nothing else."""
    if result.returncode != 0:
        pytest.fail(result.stdout + result.stderr, pytrace=False)


@pytest.fixture
def small(checkout, tmp_path) -> Path:
    """A small, right package of the same layers with the same settings, to be broken."""
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    settings = tomllib.loads((checkout / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    package = tmp_path / "minicontainer"
    package.mkdir()
    (package / "__init__.py").write_text('"""A small package."""\n')
    for name in " ".join(layers).replace("|", " ").replace(":", " ").split():
        if not name.startswith("("):
            (package / name).mkdir()
            (package / name / "__init__.py").write_text('"""A layer."""\n')
            (package / name / "part.py").write_text('"""A part of it."""\n')
    return tmp_path


def test_ruff_finds_nothing(checkout):
    expect_success(run("ruff", "check", *PYTHON_FILES, folder=checkout))


def test_ruff_would_change_no_formatting(checkout):
    expect_success(run("ruff", "format", "--diff", "--quiet", *PYTHON_FILES, folder=checkout))


def test_mypy_finds_nothing(checkout):
    expect_success(run("mypy", folder=checkout))


def test_the_layers_hold(checkout):
    expect_success(run("lint-imports", "--no-cache", "--config", "pyproject.toml", folder=checkout, path=checkout))


def test_ruff_and_mypy_notice_mistakes(small):
    (small / "minicontainer" / "wrong.py").write_text("import os\ndef f(x) : return   x + 'a'\n")
    assert "F401" in run("ruff", "check", "minicontainer/wrong.py", folder=small).stdout
    assert run("ruff", "format", "--check", "minicontainer/wrong.py", folder=small).returncode == 1
    assert "no-untyped-def" in run("mypy", "minicontainer/wrong.py", folder=small).stdout


def lint_imports(folder: Path) -> tuple[int, str]:
    """The exit code and the output, spaces evened, of import-linter."""
    result = run("lint-imports", "--no-cache", "--config", "pyproject.toml", folder=folder, path=folder)
    return result.returncode, " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("values/part", "from .. import engine", "minicontainer.values is not allowed to import minicontainer.engine"),
        (
            "rootfs/part",
            "from .. import isolation",
            "minicontainer.rootfs is not allowed to import minicontainer.isolation",
        ),
        ("engine/part", "from ..lab import part", "minicontainer.engine is not allowed to import minicontainer.lab"),
        ("rootfs/part", "import ctypes", "minicontainer.rootfs.part -> ctypes"),
        ("linux/part", "def f():\n    import pyroute2", "minicontainer.linux.part -> pyroute2"),
        ("layers/part", "import http.client", "minicontainer.layers.part -> http"),
        ("engine/part", "import matplotlib", "minicontainer.engine.part -> matplotlib"),
        ("somewhere", "", "not listed as layers: - minicontainer.somewhere"),
    ],
)
def test_a_forbidden_import_is_noticed(small, module, line, complaint):
    assert lint_imports(small)[0] == 0
    with (small / "minicontainer" / f"{module}.py").open("a") as file:
        file.write(f"\n{line}\n")
    code, output = lint_imports(small)
    assert code == 1
    assert complaint in output


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("linux/part", "import ctypes"),
        ("lab/server", "import urllib.request"),
        ("lab/part", "import matplotlib"),
        ("engine/part", "from ..runtime import part"),
    ],
)
def test_an_allowed_import_is_left_in_peace(small, module, line):
    (small / "minicontainer" / f"{module}.py").write_text(f"{line}\n")
    assert lint_imports(small)[0] == 0
