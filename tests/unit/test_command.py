"""The installed command: a shell script that is a Python program, in every way in which it can be called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
PACKAGE = """
import sys

def main(arguments):
    flags = [sys.flags.isolated, sys.flags.no_site, "site" in sys.modules]
    print([*arguments, __file__, *flags])
    return len(arguments)
"""


@pytest.fixture
def script(checkout) -> Path:
    return checkout / "minicontainer" / "cli" / "minicontainer"


@pytest.fixture
def prefix(tmp_path, script) -> Path:
    """A place where the command is installed, beside an interpreter; the package isn't there yet."""
    prefix = tmp_path / "with space" / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib" / VERSION / "site-packages").mkdir(parents=True)
    (prefix / "bin" / "minicontainer").write_bytes(script.read_bytes())
    (prefix / "bin" / "minicontainer").chmod(0o755)
    (prefix / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    return prefix


def put_package(folder: Path) -> Path:
    """A package `minicontainer` that prints what it was called with."""
    (folder / "minicontainer").mkdir(parents=True)
    (folder / "minicontainer" / "__init__.py").write_text("")
    (folder / "minicontainer" / "__main__.py").write_text(PACKAGE)
    return folder / "minicontainer" / "__main__.py"


def call(*command: object, **options: object) -> tuple[int, str]:
    """The exit code and what was printed."""
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert result.stderr == ""
    return result.returncode, result.stdout.strip()


@pytest.fixture
def installed(prefix) -> tuple[Path, Path]:
    """The command and the package's file, both in the prefix, as a wheel puts them."""
    return prefix / "bin" / "minicontainer", put_package(prefix / "lib" / VERSION / "site-packages")


def test_arguments_and_exit_code_pass_through(installed):
    command, package = installed
    words = ["a b", "", "'", '"$HOME"', "*", "\\n", "--", "-c"]
    assert call(command, *words) == (len(words), str([*words, str(package), 1, 1, False]))


def test_it_works_through_links(installed, tmp_path):
    command, package = installed
    (tmp_path / "absolute").symlink_to(command)
    (tmp_path / "relative").symlink_to(os.path.relpath(tmp_path / "absolute", tmp_path))
    for link in ("absolute", "relative"):
        assert call(tmp_path / link) == (0, str([str(package), 1, 1, False]))


def test_it_works_from_the_path_and_from_its_own_folder(installed):
    command, package = installed
    expected = (1, str(["x", str(package), 1, 1, False]))
    assert call("minicontainer", "x", env={"PATH": f"{command.parent}:/usr/bin:/bin"}) == expected
    assert call("./minicontainer", "x", cwd=command.parent) == expected
    assert call("sh", command, "x") == expected


def test_it_works_with_an_empty_environment(installed):
    command, package = installed
    assert call(command, env={}) == (0, str([str(package), 1, 1, False]))


@pytest.mark.parametrize("name", ["_editable_impl_minicontainer.pth", "_minicontainer.pth"])
def test_an_editable_install_is_found(prefix, tmp_path, name):
    package = put_package(tmp_path / "checkout")
    (prefix / "lib" / VERSION / "site-packages" / name).write_text(f"{tmp_path / 'checkout'}\n")
    assert call(prefix / "bin" / "minicontainer") == (0, str([str(package), 1, 1, False]))


def test_a_package_elsewhere_is_found_on_the_slow_road(prefix, tmp_path):
    package = put_package(tmp_path / "elsewhere")
    (prefix / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")
    (prefix / "lib" / VERSION / "site-packages" / "other.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    assert call(prefix / "bin" / "minicontainer") == (0, str([str(package), 1, 1, True]))


def test_the_environment_and_the_current_folder_cannot_slip_in_a_package(installed, tmp_path):
    command, package = installed
    put_package(tmp_path / "evil")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "evil")}
    assert call(command, env=environment, cwd=tmp_path / "evil") == (0, str([str(package), 1, 1, False]))


def test_a_module_that_is_missing_inside_the_package_is_not_hidden(installed):
    command, package = installed
    package.write_text("import not_there\n")
    result = subprocess.run([command], capture_output=True, text=True, check=False)
    assert "No module named 'not_there'" in result.stderr


def test_both_languages_read_it(script):
    compile(script.read_text(), str(script), "exec")
    shell, _, _ = script.read_text().partition('"""The installed command')
    subprocess.run(["sh", "-n", "-c", shell], check=True)
