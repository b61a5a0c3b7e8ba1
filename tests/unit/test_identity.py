"""Processes that can't be mistaken for others."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from minicontainer import linux
from minicontainer.runtime.identity import identity_of, is_alive, send_signal, wait_for_end


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def dead() -> list[int]:
    """What was written down about a process that has ended and was reaped."""
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = identity_of(process.pid)
        process.kill()
    return identity


@pytest.fixture
def zombie():
    """A process that has ended, and whose parent doesn't care."""
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = identity_of(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield identity


def test_who_lives_is_alive(sleeper) -> None:
    assert is_alive(identity_of(os.getpid()))
    assert is_alive(identity_of(sleeper.pid))


def test_the_dead_are_not(dead, zombie) -> None:
    assert not is_alive(dead)
    assert not is_alive(zombie)
    assert not is_alive([0, 0])


def test_a_number_that_was_given_out_again_is_another_process(sleeper) -> None:
    pid, birth = identity_of(sleeper.pid)
    another = [pid, birth - 1]
    assert not is_alive(another)
    assert not send_signal(another, signal.SIGKILL)
    assert wait_for_end(another)
    assert sleeper.poll() is None


def test_who_was_dead_when_it_was_written_down_stays_dead(zombie) -> None:
    written_down = identity_of(zombie[0])
    assert written_down == [zombie[0], 0]
    # birth_of gives 0 for "none", which must not be equal to that 0
    assert not is_alive(written_down)
    assert wait_for_end(written_down, timeout=0)


def test_a_signal_reaches_its_process(sleeper) -> None:
    assert send_signal(identity_of(sleeper.pid), signal.SIGUSR1)
    assert sleeper.wait() == -signal.SIGUSR1


def test_no_signal_reaches_the_dead(dead, zombie) -> None:
    assert not send_signal(dead, signal.SIGKILL)
    assert not send_signal(zombie, signal.SIGKILL)
    assert not send_signal([0, 0], signal.SIGKILL)


@pytest.mark.parametrize("timeout", [0, 0.001, -1])
def test_waiting_ends_with_the_time(sleeper, timeout: float) -> None:
    assert not wait_for_end(identity_of(sleeper.pid), timeout)


def test_waiting_ends_with_the_process(sleeper) -> None:
    identity = identity_of(sleeper.pid)
    sleeper.kill()
    assert wait_for_end(identity, timeout=20)
    assert wait_for_end(identity)


def test_no_wait_for_the_dead(dead) -> None:
    assert wait_for_end(dead)
    assert wait_for_end([0, 0])


def test_looking_leaves_no_descriptor_open(sleeper, dead) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for identity in (identity_of(sleeper.pid), dead, [sleeper.pid, 1]):
        wait_for_end(identity, 0)
        send_signal(identity, signal.SIGCONT)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["sleep", "a) b (c", "x) R 1 2 3"])
def test_the_birth_is_found_whatever_the_process_is_called(tmp_path, name: str) -> None:
    fields = ["S", *map(str, range(4, 22)), "4711", "23", "24"]
    (tmp_path / "42").mkdir()
    (tmp_path / "42/stat").write_text(f"42 ({name}) {' '.join(fields)}\n")
    assert linux.birth_of(42, str(tmp_path)) == 4711
    assert linux.birth_of(43, str(tmp_path)) == 0


@pytest.mark.parametrize(("state", "birth"), [("Z", 0), ("X", 0), ("S", 4711), ("R", 4711), ("T", 4711), ("D", 4711)])
def test_a_zombie_was_never_born(tmp_path, state: str, birth: int) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42/stat").write_text(f"42 (sleep) {state} {' '.join(map(str, range(4, 22)))} 4711 23\n")
    assert linux.birth_of(42, str(tmp_path)) == birth
