"""The tree of errors: drawn as it is, and not losing a word on the way between processes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from minicontainer import errors
from minicontainer.errors import MinicontainerError
from minicontainer.objects import ContainerError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, MinicontainerError)]


def drawn() -> dict[str, str]:
    """The tree in the docstring: class name → name of its base."""
    tree: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ((?:[│ ]   )*)(├── |└── )?([A-Z]\w+)\b.*", line)
        if found:
            depth = len(found[1]) // 4 + bool(found[2])
            path = [*path[:depth], found[3]]
            tree[found[3]] = path[-2] if depth else "Exception"
    return tree


def test_the_tree_is_drawn_as_it_is() -> None:
    assert drawn() == {each.__name__: each.__bases__[0].__name__ for each in CLASSES}
    assert len(CLASSES) > 10


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_pickled_error_keeps_its_kind_and_its_hint(kind: type[MinicontainerError]) -> None:
    error = pickle.loads(pickle.dumps(kind("it failed", hint="try again")))
    assert (type(error), error.message, error.hint, str(error)) == (kind, "it failed", "try again", "it failed")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_means(kind: type[MinicontainerError]) -> None:
    assert kind.__doc__
    assert kind("x").hint == ""


def test_exit_codes_are_dockers() -> None:
    codes = {each.__name__: each.exit_code for each in CLASSES if each.exit_code != 125}
    assert codes == {"CommandNotFound": 127, "CommandNotExecutable": 126}
    for name, code in codes.items():
        assert f"{name}" in errors.__doc__
        assert re.search(rf"{name}\s+exit code {code}", errors.__doc__)


def test_the_error_of_a_failed_container_keeps_its_exit_code() -> None:
    error = ContainerError("it ended with 3", "hint", exit_status=3, stderr=b"oops")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.hint) == ("it ended with 3", "hint")
    assert (copy.exit_status, copy.stderr) == (3, b"oops")
