"""Logs: whatever a container writes, in whatever pieces it arrives, comes back as it was."""

from __future__ import annotations

import datetime
import errno
import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.runtime import logs
from minicontainer.runtime.logs import LONGEST_PIECE, STDERR, STDOUT, LogWriter, read_log, timestamp

WRITTEN = st.binary(max_size=60) | st.lists(st.sampled_from([b"\n", b"a", b"\xff", "é".encode(), b"long line "])).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 60), max_size=6).map(sorted)
hypothesis_in_a_folder = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in itertools.pairwise([0, *cuts, max(len(data), *cuts, 0)])]


def log_of(path: Path, chunks: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Write the chunks to a new log; its entries."""
    path.unlink(missing_ok=True)
    writer = LogWriter(str(path))
    for stream, data in chunks:
        writer.write(stream, data)
    writer.close()
    assert writer.failure == ""
    return [(stream, data) for stream, data, _ in read_log(str(path))]


def test_a_line_an_entry(tmp_path: Path) -> None:
    entries = log_of(tmp_path / "log", [(STDOUT, b"one\ntwo\n"), (STDERR, b"oh\n"), (STDOUT, b"no end")])
    assert entries == [(STDOUT, b"one\n"), (STDOUT, b"two\n"), (STDERR, b"oh\n"), (STDOUT, b"no end")]


def test_the_format_is_that_of_dockers_json_file(tmp_path: Path) -> None:
    log_of(tmp_path / "log", [(STDERR, b"h\xc3\xa9llo\n")])
    (line,) = (tmp_path / "log").read_text().splitlines()
    entry = json.loads(line)
    assert entry == {"log": "héllo\n", "stream": "stderr", "time": entry["time"]}
    assert datetime.datetime.fromisoformat(entry["time"][:26] + "+00:00")


@hypothesis_in_a_folder
@given(data=WRITTEN, cuts=CUTS, piece=st.integers(1, 9))
def test_how_the_bytes_arrive_makes_no_difference(tmp_path: Path, data: bytes, cuts: list[int], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "LONGEST_PIECE", piece)
        whole = log_of(tmp_path / "log", [(STDOUT, data)])
        assert log_of(tmp_path / "log", [(STDOUT, chunk) for chunk in cut(data, cuts)]) == whole
    assert b"".join(chunk for _, chunk in whole) == data
    assert all(0 < len(chunk) <= piece for _, chunk in whole)
    assert all(b"\n" not in chunk[:-1] for _, chunk in whole)


@hypothesis_in_a_folder
@given(chunks=st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), WRITTEN), max_size=8))
def test_two_streams_do_not_mix(tmp_path: Path, chunks: list[tuple[str, bytes]]) -> None:
    entries = log_of(tmp_path / "log", chunks)
    for stream in (STDOUT, STDERR):
        of_it = [b"".join(data for name, data in each if name == stream) for each in (entries, chunks)]
        assert of_it[0] == of_it[1]


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)),
        b"\xff\xfe\n",
        b"\xed\xb3\xbf\n",
        b"\xf0\x9f\n\x90\xb3",
        b"\0\0",
        b"\r\n",
        "\u2028\x85\n".encode(),
    ],
)
def test_bytes_that_are_no_text_come_back(tmp_path: Path, data: bytes) -> None:
    assert b"".join(chunk for _, chunk in log_of(tmp_path / "log", [(STDOUT, data)])) == data


def test_a_line_of_ten_megabytes_is_kept_in_small_pieces(tmp_path: Path) -> None:
    chunk = bytes(range(48, 112)) * 1024  # 64 KiB, as the pump reads them
    entries = log_of(tmp_path / "log", [(STDOUT, chunk)] * 160 + [(STDOUT, b"\n")])
    sizes = {len(data) for _, data in entries}
    assert sizes == {LONGEST_PIECE, 1}
    assert [data for _, data in entries].count(b"\n") == 1
    assert b"".join(data for _, data in entries) == chunk * 160 + b"\n"


def test_what_waits_for_its_newline_is_bounded(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"))
    for _ in range(64):
        writer.write(STDOUT, b"x" * 65536)
        assert (tmp_path / "log").stat().st_size > 0
        assert len(writer._pending[STDOUT]) <= LONGEST_PIECE
    writer.close()


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_that_never_ran_has_said_nothing(tmp_path: Path) -> None:
    assert list(read_log(str(tmp_path / "none"))) == []


def test_following_sees_what_is_written_before_the_last_no(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    lines = [b"one\n", b"two\n", b"three\n"]

    def going_on() -> bool:
        """The container writes a line whenever it is asked, and ends with the last."""
        writer.write(STDOUT, lines.pop(0))
        return bool(lines)

    assert [data for _, data, _ in read_log(str(path), going_on, interval=0)] == [b"one\n", b"two\n", b"three\n"]
    writer.close()


def test_following_waits_for_the_other_half_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = b'{"log":"hello\\n","stream":"stdout","time":"T"}\n'
    halves = [whole[:20], whole[20:]]
    path.touch()

    def going_on() -> bool:
        with path.open("ab") as file:
            file.write(halves.pop(0))
        return bool(halves)

    assert list(read_log(str(path), going_on, interval=0)) == [("stdout", b"hello\n", "T")]


def test_a_half_line_at_the_end_is_not_an_entry(tmp_path: Path) -> None:
    log_of(tmp_path / "log", [(STDOUT, b"whole\n")])
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"log":"ha')
    assert [data for _, data, _ in read_log(str(tmp_path / "log"))] == [b"whole\n"]


def test_a_log_that_was_torn_goes_on_after_the_next_start(tmp_path: Path) -> None:
    """A monitor killed in the middle of a write leaves half a line, to which the next one must not append."""
    path = tmp_path / "log"
    log_of(path, [(STDOUT, b"before\n")])
    with path.open("ab") as file:
        file.write(b'{"log":"tor')
    writer = LogWriter(str(path))
    writer.write(STDOUT, b"after\nand on\n")
    writer.close()
    assert [data for _, data, _ in read_log(str(path))] == [b"before\n", b"after\n", b"and on\n"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\0\0\0",
        b"\xff",
        b"5",
        b"[]",
        b'{"stream":"stdout","time":"T"}',
        b'{"log":5,"stream":"stdout","time":"T"}',
        b'{"log":"\\ud800","stream":"stdout","time":"T"}',
    ],
)
def test_a_damaged_line_does_not_hide_the_others(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log"
    log_of(path, [(STDOUT, b"one\ntwo\n")])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    assert [data for _, data, _ in read_log(str(path))] == [b"one\n", b"two\n"]


# ── a full disk ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_loses_whole_entries_and_says_so(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    writer.write(STDOUT, b"kept\n")
    real_write = os.write
    room = [10]

    def write(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data[: room.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        writer.write(STDOUT, b"lost\n")
    writer.write(STDOUT, b"there is room again\n")
    writer.close()
    assert writer.failure == "the log is incomplete: No space left on device"
    assert [data for _, data, _ in read_log(str(path))] == [b"kept\n", b"there is room again\n"]


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_times_are_rfc_3339_in_utc_to_the_nanosecond(moment: int) -> None:
    text = timestamp(moment)
    seconds, rest = divmod(moment, 10**9)
    expected = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert text == f"{expected}.{rest:09d}Z"


def test_later_is_greater() -> None:
    assert timestamp() <= timestamp()
