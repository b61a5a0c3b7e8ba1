"""Steps are values that can be shown, and a quoted word is one word to a shell."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minicontainer import step as step_module
from minicontainer.runtime import plan
from minicontainer.step import CHILD, PARENT, Site, Step, quote


def kinds(base: type[Step] = Step) -> list[type[Step]]:
    """All steps that the engine has."""
    found = []
    for kind in base.__subclasses__():
        found += [kind] * kind.__module__.startswith("minicontainer.") + kinds(kind)
    return found


every_kind = pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)


def test_the_planner_has_brought_in_its_steps() -> None:
    assert {plan.PivotRoot, plan.Exec, plan.SetUser} <= set(kinds())


@every_kind
def test_every_step_knows_its_side_its_manual_and_its_command(kind: type[Step]) -> None:
    assert kind.side in (PARENT, CHILD)
    assert kind.manual
    assert kind.describe is not Step.describe
    assert kind.execute is not Step.execute


@every_kind
def test_no_field_hides_behind_what_every_step_has(kind: type[Step]) -> None:
    assert not set(kind._fields) & set(dir(Step))


class Mark(Step):
    where: str


def test_steps_are_values() -> None:
    assert Mark("a") == Mark("a") != Mark("b")
    assert Mark("a").name == "Mark"


def test_a_step_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError):
        Mark("a").describe()
    with pytest.raises(NotImplementedError):
        Mark("a").execute(Site())


def test_most_steps_have_nothing_to_undo() -> None:
    site = Site()
    Mark("a").undo(site)
    assert vars(site) == vars(Site())


def test_performances_share_nothing() -> None:
    site = Site()
    site.environment["A"] = "1"
    assert Site().environment == {}


def documented() -> dict[str, object]:
    """The class in the docstring of step.py, as a reader would type it."""
    lines = (step_module.__doc__ or "").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    class "))
    block = []
    for line in lines[start:]:
        if not line.startswith("    "):
            break
        block.append(line[4:])
    names: dict[str, object] = {"Step": Step, "CHILD": CHILD, "quote": quote}
    exec("from __future__ import annotations\n" + "\n".join(block), names)
    return names


def test_the_example_in_the_docstring_works() -> None:
    kind = next(
        each for each in documented().values() if isinstance(each, type) and issubclass(each, Step) and each is not Step
    )
    assert kind("web").describe() == "hostname web"


def test_a_field_can_not_take_the_name_of_an_inherited_property() -> None:
    def define() -> Step:
        class Named(Step):
            name: str

        return Named()

    with pytest.raises(TypeError):
        define()


@given(st.text().filter(str.isprintable))
def test_printable_text_is_quoted_as_shlex_does(text: str) -> None:
    assert quote(text) == shlex.quote(text)


@settings(max_examples=20)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))))
@example(
    ["\n\t\r\x1b[31m\\'\"$HOME `ls` \x85\u2028\u0301é", "\x1fa", "\x7f0", "$'x'", "", os.fsdecode(b"caf\xe9 \xff\n")]
)
def test_bash_reads_a_quoted_word_as_it_was_and_a_reader_on_one_line(words: list[str]) -> None:
    line = " ".join(map(quote, words))
    assert line == " ".join(line.splitlines())
    typed = subprocess.run(
        ["bash", "-c", f"for word in {line}; do printf '%s\\0' \"$word\"; done"], stdout=-1, check=True
    )
    assert typed.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]
