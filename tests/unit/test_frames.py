"""Frames between a monitor and its client: the same ones, however the bytes are cut on their way."""

from __future__ import annotations

import os
import socket
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer.errors import IntegrityError, MinicontainerError
from minicontainer.runtime.frames import (
    REPORT,
    STDERR,
    STDIN,
    STDOUT,
    FrameReader,
    exit_code,
    frame,
    read_report,
    write_all,
)

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def everything(reader: FrameReader) -> list[tuple[int, bytes]]:
    """All frames up to the end of the stream."""
    found = []
    while (arrived := reader.read()) is not None:
        found += arrived
    return found


def test_a_frame_has_dockers_header() -> None:
    assert frame(STDERR, b"oh\n") == b"\x02\0\0\0\0\0\0\x03oh\n"
    assert frame(STDIN, b"") == bytes(8)
    assert (STDIN, STDOUT, STDERR) == (0, 1, 2)


@settings(max_examples=80)
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_of_the_stream_gives_the_same_frames(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(*each) for each in frames)
    end, start = os.pipe()
    reader, found, done = FrameReader(end), [], 0
    for place in sorted({min(place, len(data)) for place in (*cuts, len(data))}):
        if place > done:
            os.write(start, data[done:place])
            found += reader.read() or []
            done = place
    os.close(start)
    assert found + everything(reader) == frames
    os.close(end)


def test_a_frame_larger_than_any_buffer(pair) -> None:
    ours, theirs = pair
    payload = os.urandom(1 << 20)
    sender = threading.Thread(target=lambda: (write_all(theirs.fileno(), frame(STDOUT, payload)), theirs.close()))
    sender.start()
    assert everything(FrameReader(ours.fileno())) == [(STDOUT, payload)]
    sender.join()


def test_a_stream_that_ends_inside_a_frame_gives_the_whole_ones(pair) -> None:
    ours, theirs = pair
    theirs.sendall(frame(STDOUT, b"whole") + frame(STDOUT, b"half")[:-1])
    theirs.close()
    assert everything(FrameReader(ours.fileno())) == [(STDOUT, b"whole")]


def test_a_killed_partner_is_an_end(pair) -> None:
    ours, theirs = pair
    ours.sendall(b"never read")
    theirs.close()  # with bytes unread: a reset, not an end
    assert FrameReader(ours.fileno()).read() is None


# ── the first report ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_report_is_read_and_not_a_byte_more(pair) -> None:
    ours, theirs = pair
    theirs.sendall(frame(REPORT, b'{"started":7}') + frame(STDOUT, b"hello"))
    assert read_report(ours.fileno()) == {"started": 7}
    theirs.close()
    assert everything(FrameReader(ours.fileno())) == [(STDOUT, b"hello")]


def test_a_report_may_come_byte_by_byte(pair) -> None:
    ours, theirs = pair
    data = frame(REPORT, b'{"started":7}')

    def drip() -> None:
        for index in range(len(data)):
            theirs.sendall(data[index : index + 1])

    dripping = threading.Thread(target=drip)
    dripping.start()
    assert read_report(ours.fileno()) == {"started": 7}
    dripping.join()


@pytest.mark.parametrize("length", [0, 5, 8, 12])
def test_a_monitor_that_was_killed_has_no_report(pair, length: int) -> None:
    ours, theirs = pair
    theirs.sendall(frame(REPORT, b'{"started":7}')[:length])
    theirs.close()
    assert read_report(ours.fileno()) == {}


def test_a_reset_connection_has_no_report(pair) -> None:
    ours, theirs = pair
    ours.sendall(b"never read")
    theirs.close()
    assert read_report(ours.fileno()) == {}


def test_a_report_that_is_no_json_is_an_integrity_error(pair) -> None:
    ours, theirs = pair
    theirs.sendall(frame(REPORT, b"oops"))
    with pytest.raises(IntegrityError):
        read_report(ours.fileno())


def test_the_last_report_has_the_exit_code_or_says_that_there_is_none() -> None:
    assert exit_code(b'{"exited":7}') == 7
    with pytest.raises(MinicontainerError, match="monitor has failed: it fell over") as caught:
        exit_code(b'{"failed":"it fell over","hint":"","kind":""}')
    assert caught.value.hint


def test_writing_to_nobody_is_no_error(pair) -> None:
    ours, theirs = pair
    assert write_all(ours.fileno(), b"hello")
    theirs.close()
    assert not write_all(ours.fileno(), b"hello")


def test_the_length_is_big_endian() -> None:
    assert struct.unpack(">BxxxI", frame(STDOUT, b"x" * 0x1234)[:8]) == (STDOUT, 0x1234)
