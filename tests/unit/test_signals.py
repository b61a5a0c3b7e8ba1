"""Signals: names, numbers, and a descriptor to read them from."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import linux
from minicontainer.cli import attach


def test_names_and_numbers_are_the_kernels() -> None:
    assert {f"SIG{name}": number for name, number in linux.SIGNALS.items()} == {
        each.name: each.value for each in signal.Signals if each.value < 32
    }


@pytest.mark.parametrize("word", ["TERM", "SIGTERM", "term", "sigterm", "SigTerm", "15", "015"])
def test_one_signal_has_many_names(word: str) -> None:
    assert linux.signal_number(word) == signal.SIGTERM


@pytest.mark.parametrize(("word", "number"), [("1", 1), ("64", 64), ("9", 9), ("KILL", 9), ("IO", 29)])
def test_the_range_of_signals(word: str, number: int) -> None:
    assert linux.signal_number(word) == number


@pytest.mark.parametrize("word", ["", "0", "65", "-9", "SIG", "SIG15", "SIGSIGTERM", "FOO", " TERM", "9.0", "٩", "²"])
def test_what_is_no_signal(word: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        linux.signal_number(word)


@given(st.text())
def test_any_word_is_a_number_or_a_value_error(word: str) -> None:
    try:
        number = linux.signal_number(word)
    except ValueError:
        return
    assert 1 <= number <= 64


# Images with systemd say `STOPSIGNAL SIGRTMIN+3`. The C library keeps 32 and 33 for itself: RTMIN is 34, RTMAX is 64.
@pytest.mark.parametrize(("word", "number"), [("SIGRTMIN+3", 37), ("RTMIN", 34), ("RTMAX", 64), ("RTMAX-1", 63)])
def test_real_time_signals_have_names_too(word: str, number: int) -> None:
    assert linux.signal_number(word) == number


def test_what_an_attached_command_hands_on() -> None:
    handed_on = set(attach._FORWARDED)
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGWINCH} <= handed_on
    assert not handed_on & {
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGTSTP,
        signal.SIGSEGV,
    }


IN_A_PROCESS_OF_ITS_OWN = """
import os, signal
from minicontainer import linux
linux.block_signals((signal.SIGUSR1, signal.SIGWINCH, 64))
descriptor = linux.signalfd((signal.SIGUSR1, signal.SIGWINCH, 64))
for number in (64, signal.SIGUSR1, signal.SIGWINCH):
    os.kill(os.getpid(), number)
print(sorted(linux.read_signal(descriptor) for _ in range(3)), os.get_inheritable(descriptor))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
linux.reset_signals()
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
status = [line for line in open("/proc/self/status") if line.startswith(("SigIgn", "SigBlk"))]
print([int(line.split()[1], 16) for line in status])
"""


def test_held_back_signals_are_read_and_then_forgotten(checkout) -> None:
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN]
    said = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [f"[{signal.SIGUSR1:d}, {signal.SIGWINCH:d}, 64] False", "set()", "[0, 0]"]


def test_a_set_of_signals_is_the_kernels_bits() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        linux.block_signals((1, 8, 9, 34, 64))  # SIGKILL can't be held back, and is left out without a word
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) - before == {1, 8, 34, 64}
        linux.block_signals((34,), how=linux.SIG_UNBLOCK)
        assert 34 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
