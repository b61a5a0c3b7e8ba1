"""What all tests share: their order, the conditions under which they run, and fresh state folders."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import source_rules

from minicontainer.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
CHECKOUT = HERE.parent
ORDER = ("unit", "architecture", "kernel", "interop", "notebooks", "browser")
"""The folders, those that answer soonest first."""
PEERS = ("crun", "docker", "dockerd", "docker-registry", "podman", "runc", "skopeo", "umoci")

# Hypothesis keeps the examples that failed; not beside the sources.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(CHECKOUT / ".cache" / "hypothesis"))
# Where matplotlib can't write to the user's home, it makes a temporary folder that outlives the tests.
os.environ.setdefault("MPLCONFIGDIR", str(CHECKOUT / ".cache" / "matplotlib"))


def pytest_report_header() -> str:
    """How long the engine is by now."""
    lines = source_rules.road_lines(CHECKOUT / "minicontainer")
    return f"engine: {lines:,} lines of {source_rules.MOST_ROAD_LINES:,} at most, command line and lab not counted"


def folder_of(item: pytest.Item) -> str:
    """The folder of tests/ that a test is in; "" for one elsewhere."""
    return item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder, and mark what tests/kernel holds as needing root."""
    items.sort(key=lambda item: ORDER.index(folder) if (folder := folder_of(item)) in ORDER else len(ORDER))
    for item in items:
        if folder_of(item) == "kernel":
            item.add_marker(pytest.mark.kernel)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what can't run here, saying why and what to type: @pytest.mark.kernel, @pytest.mark.peer("runc", …)."""
    if item.get_closest_marker("kernel") and os.geteuid() != 0:
        pytest.skip("needs root (./lab test as root, or as a user with sudo)")
    for mark in item.iter_markers("peer"):
        for program in mark.args:
            find(program)


@pytest.fixture(autouse=True)
def _nothing_hangs(request: pytest.FixtureRequest) -> Iterator[None]:
    """End a test that hangs, and show where: a guard for the run, not a measure of speed."""
    limit = 60 if folder_of(request.node) == "unit" else 900  # seconds, far beyond what any needs on a slow machine

    def expire(*_: object) -> None:
        pytest.fail(f"still running after {limit} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _process_is_left_as_it_was() -> Iterator[None]:
    """A test that leaves signals blocked, or another working folder, would make others fail: it fails itself."""
    signals, folder = signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getcwd()
    yield
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signals) - signals
    elsewhere = os.getcwd() != folder
    os.chdir(folder)
    assert not blocked, "the test left signals blocked"
    assert not elsewhere, "the test left the working folder"


def find(program: str) -> str:
    """The path of a program; the test is skipped where it isn't installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (./lab {'peers' if program in PEERS else 'test'} installs it)")
    return path


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """`needs("skopeo")`: the path of a program, or the test is skipped with what to type to get it."""
    return find


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds `lab`, `minicontainer/` and `tests/`."""
    return CHECKOUT


@pytest.fixture(scope="session")
def conformance() -> Path:
    """The folder with the published schemas and tables; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("MINICONTAINER_CONFORMANCE") or CHECKOUT.parent / "shared" / "conformance")
    if not folder.is_dir():
        pytest.skip(f"no conformance folder at {folder} (MINICONTAINER_CONFORMANCE names another)")
    return folder


@pytest.fixture
def state() -> Iterator[Paths]:
    """The engine's roots with a fresh, empty state folder, on a file system that can hold an overlay's upper folder."""
    folder = tempfile.mkdtemp(prefix="state-")
    os.chmod(folder, 0o755)
    yield Paths(state=folder)
    shutil.rmtree(folder)  # fails where something is still mounted below, and so does the test
