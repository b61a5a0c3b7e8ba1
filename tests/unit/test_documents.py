"""JSON as `json` reads and writes it, files that are replaced whole or not at all, locks between processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer import documents
from minicontainer.documents import (
    Lock,
    parse,
    read_document,
    render,
    replace_file,
    write_document,
    write_new_document,
)
from minicontainer.errors import HostError, IntegrityError

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**400), 10**400), st.floats(allow_nan=False), ANY_TEXT
).filter(lambda value: value not in (float("inf"), float("-inf")))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4), max_leaves=12
)
ALMOST_JSON = st.text('{}[]",:0123456789.eE+-truefalsn \\u\n\t\x00é', max_size=24).map(str.encode) | st.binary(
    max_size=12
)


@contextmanager
def road(fast: bool):
    """Through the C scanner, or through `json`, as on an interpreter that has no such scanner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "FAST", fast)
        yield


both_roads = pytest.mark.parametrize("fast", [True, False], ids=["scanner", "json"])


def refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def test_the_fast_road_is_there() -> None:
    assert documents.FAST


@settings(max_examples=60)
@given(VALUES, st.booleans())
def test_what_json_wrote_is_read_as_json_reads_it(value, indented) -> None:
    text = json.dumps(value, indent=2 if indented else None)
    assert parse(text.encode()) == json.loads(text)


@settings(max_examples=60)
@given(VALUES, st.booleans())
def test_what_is_written_json_reads(value, sort_keys) -> None:
    written = render(value, sort_keys=sort_keys)
    assert b"\n" not in written
    assert json.loads(written) == parse(written) == json.loads(json.dumps(value))


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_the_bytes_are_those_of_compact_json(value) -> None:
    compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert render(value, sort_keys=True) == compact.encode()


@settings(max_examples=300)
@given(ALMOST_JSON)
def test_any_bytes_are_a_value_or_an_integrity_error(data: bytes) -> None:
    try:
        expected = json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        with pytest.raises(IntegrityError, match=r"^not JSON: "):
            parse(data)
    else:
        assert parse(data) == expected


@both_roads
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"{",
        b"{} {}",
        b"'a'",
        b"{'a': 1}",
        b"{1: 1}",
        b"[1,]",
        b"01",
        b"+1",
        b"nul",
        b'"a\nb"',
        b'"\x00"',
        b'"\\x41"',
        b"\xff",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"9" * 5_000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_not_json_is_refused(data: bytes, fast: bool) -> None:
    with road(fast), pytest.raises(IntegrityError, match=r"^not JSON: "):
        parse(data)


@both_roads
@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"[-Infinity]"])
def test_numbers_that_json_does_not_know_are_not_read(word: bytes, fast: bool) -> None:
    with road(fast), pytest.raises(IntegrityError):
        parse(word)


@both_roads
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_know_are_not_written(number: float, fast: bool) -> None:
    with road(fast), pytest.raises(ValueError, match=r"JSON"):
        render({"a": number})


@both_roads
@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {"a": [b""]}])
def test_what_json_has_no_form_for_is_not_written(value: object, fast: bool) -> None:
    with road(fast), pytest.raises(TypeError):
        render(value)


@both_roads
def test_of_keys_that_come_twice_the_last_counts(fast: bool) -> None:
    with road(fast):
        assert parse(b'{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


@both_roads
def test_white_space_around_a_value_is_nothing(fast: bool) -> None:
    with road(fast):
        assert parse(b" \t\r\n[1]\n ") == [1]


@both_roads
def test_an_argument_that_is_not_utf_8_comes_back_as_it_was(fast: bool) -> None:
    argument = os.fsdecode(b"caf\xe9 \xff\xed\xa0\x80 \xc3\xa9")
    with road(fast):
        assert os.fsencode(parse(render(argument))) == b"caf\xe9 \xff\xed\xa0\x80 \xc3\xa9"


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_document_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    write_document(path, {"name": "über"})
    assert read_document(path) == {"name": "über"}
    assert (tmp_path / "state.json").read_bytes() == '{"name":"über"}\n'.encode()


def test_a_new_document_replaces_nobodys(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    write_new_document(path, {"a": 1})
    with pytest.raises(FileExistsError):
        write_new_document(path, {"a": 2})
    assert read_document(path) == {"a": 1}


def test_a_missing_document_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_document(str(tmp_path / "none.json"))


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b'{"name":')
    with pytest.raises(IntegrityError) as caught:
        read_document(str(path))
    assert caught.value.message.startswith(f"{path}: not JSON")


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        replace_file(str(path), b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_the_mode_of_a_new_file(tmp_path: Path) -> None:
    replace_file(str(tmp_path / "secret"), b"", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def fail(call: str, number: int, patch: pytest.MonkeyPatch) -> None:
    """Have one call of the replacement fail; a write fails as the kernel does it, on /dev/full."""
    real_open = os.open

    def open_full(path, flags, mode=0o777, **more) -> int:
        os.close(real_open(path, flags, mode, **more))
        return real_open("/dev/full", os.O_WRONLY)

    def raise_error(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(os, "open" if call == "write" else call, open_full if call == "write" else raise_error)


@pytest.mark.parametrize(
    ("call", "number", "durable"),
    [
        ("open", errno.ENOSPC, True),
        ("write", errno.ENOSPC, True),
        ("write", errno.ENOSPC, False),
        ("fsync", errno.ENOSPC, True),
        ("fsync", errno.EDQUOT, True),
        ("rename", errno.ENOSPC, False),
    ],
)
def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path, call, number, durable, monkeypatch) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        fail(call, number, patch)
        with pytest.raises(HostError, match=f"no space left on the disk that holds {tmp_path}") as caught:
            replace_file(str(path), b"new" * 10_000, durable=durable)
    assert "--root" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize(
    ("error", "kind"), [(OSError(errno.EIO, "I/O error"), OSError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_whatever_else_goes_wrong_leaves_nothing_half_made(tmp_path, error, kind, monkeypatch) -> None:
    def strike(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", strike)
    with pytest.raises(kind):
        replace_file(str(tmp_path / "new"), b"content")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(str(tmp_path / "no" / "file"), b"")


# ── locks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

HOLDER = """
import sys
from minicontainer.documents import Lock
with Lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path, checkout: Path):
    command = [sys.executable, "-S", "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            yield holder
        finally:
            holder.kill()


def is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_a_lock_waits_for_the_process_that_has_it(tmp_path: Path, checkout: Path) -> None:
    path, entered = tmp_path / "lock", threading.Event()

    def enter() -> None:
        with Lock(str(path)):
            entered.set()

    with held_by_another_process(path, checkout) as holder:
        assert is_held(path)
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.is_set()
        holder.stdin.close()
        waiting.join(20)
        assert entered.is_set()
    assert not is_held(path)


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path, checkout: Path) -> None:
    with held_by_another_process(tmp_path / "lock", checkout) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not is_held(tmp_path / "lock")


def test_a_lock_that_was_handed_on_is_held_until_the_last_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(str(path)) as lock:
        assert not os.get_inheritable(lock.descriptor)
        handed_on = os.dup(lock.descriptor)
    assert is_held(path)
    os.close(handed_on)
    assert not is_held(path)


def test_a_lock_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lock(str(tmp_path / "lock")):
        raise ZeroDivisionError
    assert not is_held(tmp_path / "lock")
