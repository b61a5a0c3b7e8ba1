"""The stopwatch: it times commands, passes on what they say, and survives what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from minicontainer.errors import HostError, StartFailed
from minicontainer.lab.bench import clock
from minicontainer.lab.bench.clock import Stopwatch, moment, now
from minicontainer.lab.bench.program import timed_program


@pytest.fixture(scope="module")
def stopwatch():
    with Stopwatch() as process:
        yield process


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "first"
    path.write_bytes(timed_program(os.uname().machine))
    path.chmod(0o755)
    return str(path)


def test_a_sample_lies_within_the_call(stopwatch, program):
    began = now()
    sample = stopwatch.measure([program])
    assert 0 < sample.first < sample.exit < now() - began


def test_the_environment_is_ours_and_what_is_added(stopwatch, monkeypatch):
    monkeypatch.setenv("OURS", "12")
    sample = stopwatch.measure(["/bin/sh", "-c", 'echo "$OURS$ADDED"'], {"ADDED": "34"})
    again = stopwatch.measure(["/bin/sh", "-c", 'echo "$OURS$ADDED"'], {"ADDED": "35"})
    # What is printed comes back as the first instruction's time: 1234 and 1235, less the moment of the call.
    assert -sample.first < -again.first


def test_a_command_has_no_input_and_the_default_signals(stopwatch):
    script = 'test -z "$(cat)" && sed -n "s/^SigIgn:.//p" /proc/self/status >&2; exit 7'
    with pytest.raises(StartFailed, match=r"exit code 7\): [0-9a-f]{16}$") as caught:
        stopwatch.measure(["/bin/sh", "-c", script])
    ignored = int(caught.value.message[-16:], 16)
    assert [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (number - 1) & 1] == []


def test_of_a_failure_the_last_words_are_passed_on(stopwatch):
    with pytest.raises(StartFailed, match=r"sh failed \(exit code 3\): the reason$"):
        stopwatch.measure(["/bin/sh", "-c", "echo more >&2; echo the reason >&2; exit 3"])
    with pytest.raises(StartFailed, match="it said nothing"):
        stopwatch.measure(["/bin/sh", "-c", "exit 3"])
    with pytest.raises(StartFailed, match=r"nowhere failed \(exit code 127\): .*No such file"):
        stopwatch.measure(["/nonexistent/nowhere"])


def test_what_takes_too_long_is_killed(stopwatch, monkeypatch, program):
    monkeypatch.setattr(clock, "LIMIT", 0.2)
    with pytest.raises(StartFailed, match=r"sleep failed .* it took longer than 0.2 s"):
        stopwatch.measure(["/bin/sleep", "60"])
    monkeypatch.undo()
    assert stopwatch.measure([program]).first > 0


def test_a_process_that_outlives_its_command_holds_nothing_up(stopwatch):
    with pytest.raises(StartFailed, match="exit code 5"):
        stopwatch.measure(["/bin/sh", "-c", "sleep 3 & exit 5"])


def test_it_ends_with_its_block_and_says_when_it_is_gone(program):
    with Stopwatch() as process:
        process.measure([program])
    assert process._process.returncode == 0
    with Stopwatch(["sh", "-c", "exit 9", "sh"]) as broken, pytest.raises(HostError, match="has ended"):
        broken.measure([program])


def test_it_is_started_through_its_wrapper(program):
    with (
        Stopwatch(["sh", "-c", 'WRAPPED=56 exec "$@"', "sh"]) as wrapped,
        pytest.raises(StartFailed, match="wrapped 56"),
    ):
        # Its environment is ours, not the wrapper's: what the wrapper gave can be seen in the stopwatch itself.
        wrapped.measure(
            ["/bin/sh", "-c", 'echo wrapped $(tr "\\0" "\\n" </proc/$PPID/environ | sed -n s/WRAPPED=//p) >&2; exit 1']
        )


def test_only_a_number_is_a_moment():
    assert moment("1234\n", "x") == 1234
    for output in ("", "hello\n", "12 34\n", "-5\n"):
        with pytest.raises(StartFailed, match="instead of the time"):
            moment(output, "x")


def test_the_stopwatch_imports_nothing_of_the_package():
    code = f"import runpy, sys; runpy.run_path({clock._PROGRAM!r}); print([n for n in sys.modules if 'mini' in n])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
