"""The kernel tests marked cgroup2, once more, in a guest whose control groups are purely version 2.

Most hosts with systemd have such groups already; this is for those that haven't, and for the guest's older Debian.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from minicontainer.errors import HostError, MinicontainerError

pytestmark = pytest.mark.guest

COMMAND = (
    "PYTHONPATH=/guest/site python3 -m pytest -q --color=no --basetemp=/tmp/pytest --junitxml=/guest/out/junit.xml "
    "-m cgroup2 tests/kernel"
)


@pytest.fixture(scope="session")
def guest_module(checkout: Path) -> ModuleType:
    """tests/guest/guest.py, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("minicontainer_test_guest", checkout / "tests/guest/guest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def guest(guest_module, needs):
    """The guest, built if it wasn't."""
    needs("mmdebstrap")
    needs("mke2fs")
    try:
        return guest_module.Guest(progress=lambda _: None)
    except MinicontainerError as error:
        pytest.skip(f"no test guest: {error.message[-500:]} ({error.hint})")


def test_a_guests_exit_code_output_and_files_come_back(guest, tmp_path):
    result = guest.run("echo hello; pwd; mkdir /guest/out/d; echo text >/guest/out/d/file; exit 7", tmp_path)
    assert result.exit_code == 7
    assert result.output == ("hello", "/guest/checkout")
    assert (tmp_path / "d/file").read_text() == "text\n"


def test_a_guest_without_an_answer_is_an_error(guest, tmp_path):
    with pytest.raises(HostError, match="ended before its workload did"):
        guest.run("poweroff -ff || busybox poweroff -f; sleep 60", tmp_path)


def test_the_marked_tests_pass_in_the_guest(guest, tmp_path):
    result = guest.run(COMMAND, tmp_path)
    output = "\n".join(result.output)
    report = tmp_path / "junit.xml"
    assert report.exists(), f"pytest in the guest made no report (exit code {result.exit_code})\n{output}"
    suite = ElementTree.parse(report).getroot().find("testsuite")
    ran = int(suite.get("tests")) - int(suite.get("skipped"))
    if result.exit_code != 0 or int(suite.get("failures")) or int(suite.get("errors")):
        pytest.fail(f"in the guest (to see it again: {again()}):\n{output}", pytrace=False)
    assert ran > 0, f"no test ran in the guest\n{output}"


def again() -> str:
    """The command that runs the guest's tests by hand."""
    return f"python tests/guest/guest.py -- {shlex.quote(COMMAND)}"
