"""The package keeps every rule of source_rules, and every rule can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import source_rules
from source_rules import RULES

LONG_FUNCTION = '"""x.\n\nLayer: x.\n"""\ndef run():\n    """Run."""\n' + "    print()\n" * 60
MANY_FUNCTIONS = '"""x.\n\nLayer: x.\n"""\n' + "".join(
    f'def run{number}():\n    """Run."""\n' + "    print()\n" * 41 for number in range(6)
)

BROKEN = [
    (source_rules.size_of_files, {"big.py": "x = 1\n" * 301}, "big.py has 301 lines"),
    (source_rules.size_of_functions, {"a.py": LONG_FUNCTION}, "a.py: run has 62 lines"),
    (source_rules.size_of_functions, {"a.py": MANY_FUNCTIONS}, "p90 of functions is 43 lines"),
    (
        source_rules.size_of_road,
        {f"runtime/a{n}.py": "x = 1\n" * 300 for n in range(22)},
        "the engine has 6600 lines of code",
    ),
    (source_rules.docstrings, {"a.py": ""}, "a.py has no docstring"),
    (source_rules.docstrings, {"a.py": '"""x."""'}, "doesn't say its layer"),
    (source_rules.docstrings, {"a.py": '"""x. Layer: a."""\ndef f(): ...\n'}, "a.py: f has no docstring"),
    (source_rules.docstrings, {"a.py": '"""x. Layer: a."""\nclass C: ...\n'}, "a.py: C has no docstring"),
    (
        source_rules.docstrings,
        {"a.py": '"""x. Layer: a."""\nclass C:\n    """C."""\n    def f(self):\n        print()\n        print()\n'},
        "a.py: C.f has no docstring",
    ),
    (source_rules.exports, {"__init__.py": "from .a import b\n"}, "offers names and has no __all__"),
    (source_rules.exports, {"__init__.py": "from .a import b\n__all__ = ['b', 'c']\n"}, "names c, which isn't there"),
    (source_rules.exports, {"__init__.py": "from .a import b\n__all__ = ['b', 'b']\n"}, "names b twice"),
    (source_rules.nothing_is_a_stub, {"a.py": "def f():\n    raise NotImplementedError('later')\n"}, "a.py:2"),
    (source_rules.hot_imports, {"values.py": "import os\nimport json\n"}, "values.py:2 imports json"),
    (source_rules.hot_imports, {"cli/run.py": "if os.name:\n    from re import sub\n"}, "cli/run.py:2 imports re"),
    (source_rules.hot_imports, {"rootfs/a.py": "import ctypes\n"}, "rootfs/a.py:1 imports ctypes"),
]

KEPT = [
    (source_rules.size_of_road, {f"lab/a{n}.py": "x = 1\n" * 300 for n in range(22)}),
    (source_rules.nothing_is_a_stub, {"step.py": "def f():\n    raise NotImplementedError\n"}),
    (source_rules.hot_imports, {"lab/a.py": "import json\n", "linux/a.py": "import ctypes\n"}),
    (source_rules.hot_imports, {"values.py": "if TYPE_CHECKING:\n    import typing\ndef f():\n    import json\n"}),
    (
        source_rules.docstrings,
        {
            "a.py": '"""x. Layer: a."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\n',
            "b.py": '"""x. Layer: a."""\nclass B(A):\n    """B."""\n    def f(self):\n        f()\n        g()\n',
        },
    ),
]


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule, checkout):
    complaints = rule(checkout / "minicontainer")
    if complaints:
        pytest.fail(f"{rule.__doc__}\n  " + "\n  ".join(complaints), pytrace=False)


@pytest.mark.parametrize(("rule", "files", "complaint"), BROKEN)
def test_a_broken_rule_is_noticed(rule, files, complaint, tmp_path):
    assert any(complaint in found for found in rule(write(tmp_path, files))), rule(tmp_path)


@pytest.mark.parametrize(("rule", "files"), KEPT)
def test_what_a_rule_allows_is_left_in_peace(rule, files, tmp_path):
    assert rule(write(tmp_path, files)) == []


def test_every_rule_is_seen_to_fail():
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_hot_modules_are_there(checkout):
    missing = [name for name in source_rules.HOT if not (checkout / "minicontainer" / name).exists()]
    assert missing == [], "source_rules.HOT names what isn't there: a renamed module would escape the rule"
