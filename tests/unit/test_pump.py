"""The pump: bytes between a process, its log and a client, none of whom can stop the others."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minicontainer.documents import render
from minicontainer.runtime import pump as pump_module
from minicontainer.runtime.frames import REPORT, RESIZE, SIGNAL, STDERR, STDIN, STDOUT, FrameReader, frame
from minicontainer.runtime.logs import LogWriter, read_log
from minicontainer.runtime.pump import Pump


class Started:
    """A process with its pump, and the client's end of their connection."""

    def __init__(self, *command: str, stdin: bool = False, attached: bool = True, log: Path | None = None) -> None:
        self.client, theirs = socket.socketpair()
        self.pump = Pump(theirs.detach(), attached)
        streams = self.pump.open_pipes(request_input=stdin, tty=False)
        self.process = subprocess.Popen(
            command, stdin=streams[0], stdout=streams[1], stderr=streams[2], start_new_session=True
        )
        for descriptor in set(streams):
            os.close(descriptor)
        if log:
            self.pump.log = LogWriter(str(log))

    def send(self, kind: int, payload: bytes) -> Started:
        self.client.sendall(frame(kind, payload))
        return self

    def until_its_end(self) -> Started:
        """Wait without reaping, which is the pump's caller's business."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return self

    def run(self) -> Started:
        """Pump until the process has ended; the last report is for the client."""
        self.pump.run(self.process.pid)
        self.process.wait()
        self.pump.close_log()
        self.pump.report({"exited": self.process.returncode})
        return self

    def received(self) -> dict[int, bytes]:
        """All that the client gets, kind by kind."""
        finishing = threading.Thread(target=self.finish)
        finishing.start()
        streams: dict[int, bytes] = {}
        reader = FrameReader(self.client.fileno())
        while (arrived := reader.read()) is not None:
            for kind, payload in arrived:
                streams[kind] = streams.get(kind, b"") + payload
        finishing.join()
        return streams

    def finish(self) -> None:
        """Send what is left, and hang up."""
        self.pump.finish()
        self.pump._forget_client()

    def close(self) -> None:
        """End the process, and what it has left in the background."""
        end(self.process)
        self.client.close()
        if self.pump.client >= 0:
            os.close(self.pump.client)


def end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


@pytest.fixture
def start():
    """Starts processes, and ends them with the test."""
    started: list[Started] = []

    def make(*command: str, **options) -> Started:
        started.append(Started(*command, **options))
        return started[-1]

    yield make
    for each in started:
        each.close()


def exited(code: int) -> bytes:
    return render({"exited": code})


def test_output_goes_to_the_client_and_to_the_log(start, tmp_path: Path) -> None:
    started = start("sh", "-c", "echo out; echo err >&2; exit 3", log=tmp_path / "log").run()
    assert started.received() == {STDOUT: b"out\n", STDERR: b"err\n", REPORT: exited(3)}
    assert sorted(read_log(str(tmp_path / "log")))[0][:2] == ("stderr", b"err\n")
    assert sorted(read_log(str(tmp_path / "log")))[1][:2] == ("stdout", b"out\n")


def test_a_detached_client_gets_reports_only(start, tmp_path: Path) -> None:
    started = start("echo", "hello", attached=False, log=tmp_path / "log").run()
    assert started.received() == {REPORT: exited(0)}
    assert [data for _, data, _ in read_log(str(tmp_path / "log"))] == [b"hello\n"]


def test_what_was_in_the_pipes_at_the_end_is_not_lost(start) -> None:
    started = start("sh", "-c", "head -c 50000 /dev/zero; head -c 50000 /dev/zero >&2")
    received = started.until_its_end().run().received()
    assert (len(received[STDOUT]), len(received[STDERR])) == (50_000, 50_000)


def test_input_arrives_and_ends_with_an_empty_frame(start) -> None:
    started = start("cat", stdin=True).send(STDIN, b"hello ").send(STDIN, b"world").send(STDIN, b"").run()
    assert started.received() == {STDOUT: b"hello world", REPORT: exited(0)}


def test_a_megabyte_of_input_comes_out_again(start) -> None:
    data = os.urandom(1 << 20)
    started = start("cat", stdin=True)

    def feed() -> None:
        for place in range(0, len(data), 65536):
            started.send(STDIN, data[place : place + 65536])
        started.send(STDIN, b"")

    with ThreadPoolExecutor(2) as pool:
        pool.submit(feed)
        pool.submit(started.run).add_done_callback(lambda _: started.finish())
        reader, seen = FrameReader(started.client.fileno()), b""
        while (arrived := reader.read()) is not None:
            seen += b"".join(payload for kind, payload in arrived if kind == STDOUT)
    assert seen == data


def test_a_process_that_does_not_read_its_input_just_ends(start) -> None:
    started = start("true", stdin=True).until_its_end().send(STDIN, b"x" * 100_000).run()
    assert started.received() == {REPORT: exited(0)}


def test_without_i_there_is_no_input(start) -> None:
    assert start("cat").send(STDIN, b"ignored").run().received() == {REPORT: exited(0)}


def test_a_client_that_is_gone_is_forgotten(start, tmp_path: Path) -> None:
    started = start("sh", "-c", "for i in 1 2 3; do echo $i; done", log=tmp_path / "log")
    started.client.close()
    started.run()
    assert started.pump.client == -1
    assert b"".join(data for _, data, _ in read_log(str(tmp_path / "log"))) == b"1\n2\n3\n"
    started.pump.finish()


def test_a_client_that_goes_with_bytes_unread_is_forgotten_too(start) -> None:
    started = start("sh", "-c", "head -c 300000 /dev/zero", attached=True)
    started.pump.report({"started": 1})
    started.send(STDIN, b"never read").client.close()
    started.run()
    assert started.process.returncode == 0
    assert started.pump.client == -1


def test_a_slow_client_slows_the_process_and_takes_no_memory(start, monkeypatch) -> None:
    started = start("head", "-c", str(4 << 20), "/dev/zero")
    full, most = threading.Event(), []
    real_interests = started.pump._interests

    def interests():
        most.append(len(started.pump._unsent))
        if most[-1] >= pump_module._MOST_UNSENT:
            full.set()
        return real_interests()

    monkeypatch.setattr(started.pump, "_interests", interests)
    pumping = threading.Thread(target=started.run)
    pumping.start()
    assert full.wait(20)  # nothing is read before the bound is reached
    assert started.process.poll() is None
    reader, count = FrameReader(started.client.fileno()), 0
    while count < 4 << 20:
        count += sum(len(payload) for kind, payload in reader.read() if kind == STDOUT)
    pumping.join()
    assert count == 4 << 20
    assert max(most) <= pump_module._MOST_UNSENT + pump_module._CHUNK + 8


def test_a_signal_is_handed_on(start) -> None:
    started = start("sleep", "60").send(SIGNAL, b"15").run()
    assert started.process.returncode == -signal.SIGTERM


def test_a_window_size_without_a_terminal_is_nothing(start) -> None:
    assert start("true").send(RESIZE, b"[24, 80]").run().received() == {REPORT: exited(0)}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (RESIZE, b""),
        (RESIZE, b"[1]"),
        (RESIZE, b"{}"),
        (SIGNAL, b""),
        (SIGNAL, b'"TERM"'),
        (SIGNAL, b"9999"),
        (SIGNAL, b"-1"),
    ],
)
def test_a_frame_that_makes_no_sense_harms_nobody(start, kind: int, payload: bytes) -> None:
    started = (
        start("sh", "-c", "read line; echo $line", stdin=True).send(kind, payload).send(STDIN, b"still here\n").run()
    )
    assert started.received() == {STDOUT: b"still here\n", REPORT: exited(0)}


@pytest.mark.parametrize("kind", [STDOUT, REPORT, 6, 77, 255])
def test_a_frame_of_another_kind_is_passed_over(start, kind: int) -> None:
    started = start("cat", stdin=True).send(kind, b"?").send(STDIN, b"x").send(STDIN, b"").run()
    assert started.received() == {STDOUT: b"x", REPORT: exited(0)}


def test_a_writer_in_the_background_does_not_keep_the_pump(start, monkeypatch) -> None:
    """As exec sh -c 'yes & exit 3' has one: there always is more to read, and nobody waits for its end."""
    started = start("sh", "-c", "yes & yes >&2 & exit 3")
    taken = 0
    real_take = started.pump._take_output

    def take(descriptor: int) -> bool:
        nonlocal taken
        select.select([descriptor], [], [], 5)  # the writer is always faster
        taken += 1
        assert taken < 100, "a pipe holds 64 KiB: that was read long ago"
        return real_take(descriptor)

    monkeypatch.setattr(started.pump, "_take_output", take)
    started.run()
    assert started.process.returncode == 3


# ── a terminal ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def terminal():
    """A pump with a terminal, and what runs in it: (client, run)."""
    ours, theirs = socket.socketpair()
    pump = Pump(theirs.detach(), attached=True)
    os.close(pump.open_pipes(request_input=True, tty=True)[0])
    master, slave = os.openpty()
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> tuple[int, bytes]:
        started.append(subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True))
        os.close(slave)
        pump.use_terminal(master)
        pump.run(started[0].pid)
        pump.finish()
        pump._forget_client()
        seen, reader = b"", FrameReader(ours.fileno())
        while (arrived := reader.read()) is not None:
            seen += b"".join(payload for kind, payload in arrived if kind == STDOUT)
        return started[0].wait(), seen

    yield ours, run
    end(started[0])
    ours.close()
    os.close(pump._input)


def test_a_terminal_is_one_stream_with_its_own_line_ends(terminal) -> None:
    _, run = terminal
    assert run("sh", "-c", "echo out; echo err >&2") == (0, b"out\r\nerr\r\n")


def test_keys_go_to_the_terminal_and_come_back_as_echo(terminal) -> None:
    client, run = terminal
    client.sendall(frame(STDIN, b"hello\n"))
    code, seen = run("sh", "-c", "read line; echo got $line")
    assert code == 0
    assert seen.endswith(b"got hello\r\n")
    assert seen.startswith(b"hello\r\n")


def test_a_terminal_gets_the_clients_size(terminal) -> None:
    client, run = terminal
    client.sendall(frame(RESIZE, b"[33, 99]") + frame(STDIN, b"\n"))
    code, seen = run("sh", "-c", "read line; stty size")
    assert (code, seen) == (0, b"\r\n33 99\r\n")


@pytest.mark.parametrize("size", [b"[70000, 1]", b"[-1, 1]", b'["a", "b"]'])
def test_a_size_that_no_terminal_has_harms_nobody(terminal, size: bytes) -> None:
    client, run = terminal
    client.sendall(frame(RESIZE, size) + frame(STDIN, b"\n"))
    assert run("sh", "-c", "read line; exit 4")[0] == 4
