"""What a start really imports: the names in sys.modules of a fresh interpreter, after importing the command."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What comes with an allowed module, in one or the other version of Python.
CHEAP = {
    "os": "os os.path stat _stat posixpath genericpath abc _abc _collections_abc",
    "ctypes": "ctypes _ctypes ctypes._endian types _types struct _struct",
    "hashlib": "hashlib _hashlib _blake2 _md5 _sha1 _sha2 _sha3 _sha256 _sha512",
    "others": "__future__ _json errno fcntl select time io _io sys codecs encodings _codecs",
}

SCRIPT = """
import sys
sys.path.append({checkout!r})
before = set(sys.modules)
import {module}
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def imported(module: str, checkout: object) -> set[str]:
    """What importing `module` brings into a fresh interpreter that was started as the installed command starts it."""
    script = SCRIPT.format(checkout=str(checkout), module=module)
    command = [sys.executable, "-I", "-S", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def foreign(names: set[str]) -> set[str]:
    allowed = set(" ".join(CHEAP.values()).split())
    return {name for name in names if name.split(".")[0] != "minicontainer"} - allowed


@pytest.mark.parametrize("module", ["minicontainer.__main__", "minicontainer.cli", "minicontainer.engine"])
def test_a_start_imports_only_what_is_cheap(module, checkout):
    assert foreign(imported(module, checkout)) == set()


def test_importing_the_package_imports_hardly_anything(checkout):
    assert imported("minicontainer", checkout) == {"minicontainer", "__future__"}


@pytest.mark.parametrize("module", ["json", "dataclasses", "subprocess"])
def test_a_dear_import_is_noticed(module, checkout):
    noticed = foreign(imported(module, checkout))
    assert module in noticed
