"""The last steps of a plan, on a kernel that only takes notes."""

from __future__ import annotations

import errno
import os

import pytest

from minicontainer import linux
from minicontainer.runtime.process import ChangeDirectory, Exec, SetEnvironment
from minicontainer.step import Site


def tried(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], answers: dict[str, int], **environment: str):
    """The programs that Exec tries, each answered with an errno (missing: ENOENT), and the error that comes out."""
    asked: list[str] = []

    def execve(path: str, _: object, given: object) -> None:
        assert given == environment
        asked.append(path)
        number = answers.get(path, errno.ENOENT)
        raise OSError(number, os.strerror(number), path)

    site = Site()
    site.environment = dict(environment)
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(os, "umask", lambda _: 0)
    monkeypatch.setattr(linux, "close_range", lambda *_, **__: None)
    monkeypatch.setattr(linux, "reset_signals", lambda: None)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - each caller looks at the number
        Exec(arguments).execute(site)
    return asked, caught.value.errno


def test_the_containers_own_path_is_searched_in_its_order(monkeypatch) -> None:
    asked, number = tried(monkeypatch, ("ls",), {}, PATH="/usr/bin:/bin")
    assert (asked, number) == (["/usr/bin/ls", "/bin/ls"], errno.ENOENT)


def test_a_name_with_a_slash_is_not_searched_for(monkeypatch) -> None:
    assert tried(monkeypatch, ("./ls",), {}, PATH="/bin") == (["./ls"], errno.ENOENT)
    assert tried(monkeypatch, ("/x/ls",), {"/x/ls": errno.EACCES}, PATH="/bin") == (["/x/ls"], errno.EACCES)


def test_one_that_may_not_be_executed_is_told_if_no_other_is_found(monkeypatch) -> None:
    asked, number = tried(monkeypatch, ("ls",), {"/a/ls": errno.EACCES, "/b/ls": errno.ENOTDIR}, PATH="/a:/b:/c")
    assert (asked, number) == (["/a/ls", "/b/ls", "/c/ls"], errno.EACCES)


def test_a_file_that_is_no_program_ends_the_search(monkeypatch) -> None:
    assert tried(monkeypatch, ("ls",), {"/a/ls": errno.ENOEXEC}, PATH="/a:/b") == (["/a/ls"], errno.ENOEXEC)


# Not in the working directory either, which the container's user may have filled.
@pytest.mark.parametrize("environment", [{}, {"PATH": ""}])
def test_without_a_path_nothing_is_found(monkeypatch, environment: dict[str, str]) -> None:
    assert tried(monkeypatch, ("ls",), {}, **environment) == ([], errno.ENOENT)


def test_the_environment_is_the_steps_and_no_other() -> None:
    site = Site()
    site.environment = {"OLD": "1"}
    SetEnvironment(("A=1", "B=x=y", "C=")).execute(site)
    assert site.environment == {"A": "1", "B": "x=y", "C": ""}


def test_a_working_directory_outside_of_the_root_is_refused(monkeypatch) -> None:
    """CVE-2024-21626: a folder that was reached through a leaked descriptor is not below the root."""
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(os, "getcwd", lambda: "(unreachable)/host")
    with pytest.raises(PermissionError) as caught:
        ChangeDirectory("/proc/self/fd/7").execute(Site())
    assert caught.value.filename == "/proc/self/fd/7"
