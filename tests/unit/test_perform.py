"""Performing a plan on both sides of a wall that separates nothing: what is done, undone and said when it fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minicontainer.errors import CommandNotExecutable, CommandNotFound, HostError, MinicontainerError, StartFailed
from minicontainer.isolation import CloneIntoNamespaces
from minicontainer.runtime.perform import Performance
from minicontainer.runtime.process import Exec, SetEnvironment
from minicontainer.step import CHILD, Site, Step

WALL = CloneIntoNamespaces(())  # a clone into no new namespace is a fork, which needs no privilege
ENVIRONMENT = SetEnvironment(("PATH=/usr/bin:/bin",))


class Note(Step):
    """Writes a word into a file when it is executed, and another when it is undone."""

    word: str
    file: str

    def execute(self, site: Site) -> None:
        self._write(self.word)

    def undo(self, site: Site) -> None:
        self._write(f"undo {self.word}")

    def _write(self, word: str) -> None:
        with open(self.file, "a") as file:
            file.write(f"{word}\n")


class NoteInside(Note):
    side = CHILD


class Fail(Step):
    """Fails as the kernel does."""

    number: int = errno.ENODEV
    about: str = "/dev/x"

    def execute(self, site: Site) -> None:
        raise OSError(self.number, os.strerror(self.number), self.about)


class FailInside(Fail):
    side = CHILD


class Refuse(Step):
    """Fails in words of its own."""

    def execute(self, site: Site) -> None:
        raise HostError("no such controller", hint="leave it out")


class Stumble(Step):
    """Has a mistake in it."""

    side = CHILD

    def execute(self, site: Site) -> None:
        raise ValueError("a mistake")


class Die(Step):
    """Is killed in the middle."""

    side = CHILD

    def execute(self, site: Site) -> None:
        os.kill(os.getpid(), 9)


class Stage:
    """A file for notes, and performances that write to it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "notes"
        self.site = Site()

    def note(self, word: str) -> Note:
        return Note(word, str(self.file))

    def inside(self, word: str) -> Note:
        return NoteInside(word, str(self.file))

    def perform(self, *plan: Step, meanwhile=lambda: None) -> Performance:
        performance = Performance(plan, self.site, meanwhile)
        performance.prepare()
        performance.commit()
        return performance

    def notes(self) -> list[str]:
        return self.file.read_text().splitlines() if self.file.exists() else []

    def exit_code(self) -> int:
        pid, self.site.pid = self.site.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def stage(tmp_path: Path):
    """A stage that is left as it was found: no child, no open descriptor."""
    descriptors = os.listdir("/proc/self/fd")
    yield Stage(tmp_path)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert os.listdir("/proc/self/fd") == descriptors


def test_steps_are_done_in_their_order_on_their_sides(stage: Stage) -> None:
    script = f'echo "$0 $(id -u)" >> {stage.file}; exit 7'
    stage.perform(
        stage.note("one"),
        WALL,
        stage.inside("two"),
        stage.note("three"),
        stage.inside("four"),
        ENVIRONMENT,
        Exec(("sh", "-c", script)),
        meanwhile=lambda: None,
    )
    assert stage.exit_code() == 7
    assert stage.notes() == ["one", "two", "three", "four", f"sh {os.getuid()}"]


def test_what_is_done_meanwhile_is_done_once_and_before_the_exec(stage: Stage) -> None:
    count: list[bool] = []

    def meanwhile() -> None:
        count.append(stage.file.exists())

    stage.perform(WALL, ENVIRONMENT, Exec(("touch", str(stage.file))), meanwhile=meanwhile)
    assert stage.exit_code() == 0
    assert count == [False]
    assert stage.file.exists()


def test_undoing_gives_back_the_hosts_steps_the_last_first(stage: Stage) -> None:
    performance = stage.perform(stage.note("a"), stage.note("b"), WALL, stage.inside("c"), ENVIRONMENT, Exec(("true",)))
    assert stage.exit_code() == 0
    performance.undo()
    assert stage.notes() == ["a", "b", "c", "undo b", "undo a"]
    performance.undo()
    assert stage.notes() == ["a", "b", "c", "undo b", "undo a"]


@pytest.mark.parametrize("beyond_the_wall", [False, True])
def test_a_step_of_the_hosts_that_fails_is_named_and_the_others_undone(stage: Stage, beyond_the_wall: bool) -> None:
    wall = (WALL, stage.inside("inside")) if beyond_the_wall else ()
    with pytest.raises(StartFailed, match=r"^step Fail failed: /dev/x No such device$"):
        stage.perform(stage.note("a"), stage.note("b"), *wall, Fail(), WALL, Exec(("true",)))
    assert stage.notes() == ["a", "b", *(["inside"] if beyond_the_wall else []), "undo b", "undo a"]


def test_a_step_of_the_containers_that_fails_is_named_and_the_others_undone(stage: Stage) -> None:
    with pytest.raises(StartFailed, match=r"^step FailInside failed: /dev/x No such device$"):
        stage.perform(stage.note("a"), WALL, stage.inside("b"), FailInside(), stage.inside("c"), Exec(("true",)))
    assert stage.notes() == ["a", "b", "undo a"]


def test_an_error_in_words_passes_as_it_is(stage: Stage) -> None:
    with pytest.raises(HostError, match="no such controller") as caught:
        stage.perform(stage.note("a"), Refuse(), WALL, Exec(("true",)))
    assert caught.value.hint == "leave it out"
    assert stage.notes() == ["a", "undo a"]


def test_when_the_record_can_not_be_written_nothing_starts(stage: Stage) -> None:
    def meanwhile() -> None:
        raise HostError("no space left")

    with pytest.raises(HostError, match="no space left"):
        stage.perform(stage.note("a"), WALL, ENVIRONMENT, Exec(("touch", f"{stage.file}.started")), meanwhile=meanwhile)
    assert stage.notes() == ["a", "undo a"]
    assert not Path(f"{stage.file}.started").exists()


def test_a_mistake_in_a_step_of_the_containers_is_reported_and_hangs_nobody(stage: Stage) -> None:
    with pytest.raises(MinicontainerError, match="a mistake"):
        stage.perform(stage.note("a"), WALL, Stumble(), Exec(("true",)))
    assert stage.notes() == ["a", "undo a"]


# BUG: silence from the child is taken for an exec that worked, and then its channel is found broken:
# 'exec: "true": Broken pipe', exit code 126, as if the command were at fault. (The kernel may kill it: out of memory.)
@pytest.mark.parametrize("steps", [(Die(),), (Die(), ENVIRONMENT), (ENVIRONMENT, Die())])
def test_a_child_that_is_killed_before_its_exec_is_no_command_that_can_not_be_executed(stage: Stage, steps) -> None:
    with pytest.raises(StartFailed) as caught:
        stage.perform(stage.note("a"), WALL, *steps, Exec(("true",)))
    assert not isinstance(caught.value, CommandNotExecutable)
    assert "exec" not in caught.value.message
    assert stage.notes() == ["a", "undo a"]


@pytest.mark.parametrize(
    ("make", "error", "words", "hint"),
    [
        (None, CommandNotFound, "No such file or directory", "look what the image has"),
        ("folder", CommandNotExecutable, "Permission denied", "x permission"),
        ("plain", CommandNotExecutable, "Permission denied", "x permission"),
        ("nonsense", CommandNotExecutable, "Exec format error", "no program for this machine"),
        ("lost", CommandNotFound, "No such file or directory", "look what the image has"),
    ],
)
def test_a_command_that_can_not_be_executed_says_why(stage: Stage, tmp_path: Path, make, error, words, hint) -> None:
    program = tmp_path / "program"
    if make == "folder":
        program.mkdir()
    elif make:
        program.write_text(
            {"plain": "#!/bin/sh\n", "nonsense": "\x7fnonsense", "lost": "#!/no/such/interpreter\n"}[make]
        )
        program.chmod(0o644 if make == "plain" else 0o755)
    with pytest.raises(error) as caught:
        stage.perform(stage.note("a"), WALL, ENVIRONMENT, Exec((str(program),)))
    assert caught.value.message == f'exec: "{program}": {words}'
    assert hint in caught.value.hint
    assert stage.notes() == ["a", "undo a"]


def test_a_command_that_is_nowhere_in_the_path(stage: Stage) -> None:
    with pytest.raises(CommandNotFound) as caught:
        stage.perform(WALL, ENVIRONMENT, Exec(("no-such-program",)))
    assert caught.value.message == 'exec: "no-such-program": executable file not found in $PATH'


def test_nothing_but_the_standard_streams_reaches_the_program(stage: Stage) -> None:
    left_open = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(left_open, True)
    stage.perform(
        WALL, ENVIRONMENT, Exec(("sh", "-c", f"ls /proc/self/fd | wc -l > {stage.file}; umask >> {stage.file}"))
    )
    assert stage.exit_code() == 0
    os.close(left_open)
    assert stage.notes() == ["4", "0022"]  # 0, 1, 2, and the folder that ls reads
