"""The program that tells when it began: its bytes, and that it tells the truth."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import time

import pytest

from minicontainer.errors import HostError
from minicontainer.lab.bench.program import BASE, HEADERS, MACHINES, timed_program

DIGESTS = {
    "x86_64": "0dbeac26573da6d3f685c40f6d81f695d8ed162f6a13b6029fb7a78749a3944a",
    "aarch64": "8b4f205f215fa221df83ec3e4def1c8329f1903930abe8d36d50d5e791e4a1e6",
}
"""Of programs that have been run, the second in an emulator, and disassembled back to their listings."""


@pytest.mark.parametrize("machine", MACHINES)
def test_the_bytes_are_those_that_were_tried(machine):
    assert hashlib.sha256(timed_program(machine)).hexdigest() == DIGESTS[machine]


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_the_headers_map_the_whole_file_and_enter_the_code(machine, number):
    program = timed_program(machine)
    assert program[:16] == b"\x7fELF\x02\x01\x01" + bytes(9)
    kind, of, version, entry, headers, sections = struct.unpack_from("<HHIQQQ", program, 16)
    assert (kind, of, version, entry, headers, sections) == (2, number, 1, BASE + HEADERS, 64, 0)
    load, flags, offset, virtual, _, in_file, in_memory, alignment = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (load, flags, offset, virtual) == (1, 5, 0, BASE)  # PT_LOAD, readable and executable, not writable
    assert in_file == in_memory == len(program)
    assert virtual % alignment == offset % alignment


def jnz(octets: bytes) -> int:
    """How far it jumps from its own beginning: its last byte counts from its end."""
    return len(octets) + struct.unpack("b", octets[-1:])[0]


def cbnz(octets: bytes) -> int:
    """The same: bits 5 to 23, signed, count words."""
    words = struct.unpack("<I", octets)[0] >> 5 & 0x7FFFF
    return 4 * (words - (words >> 18 << 19))


@pytest.mark.parametrize(
    ("machine", "jump", "distance"), [("x86_64", "jnz next", jnz), ("aarch64", "cbnz x2, next", cbnz)]
)
def test_the_loop_jumps_to_its_beginning(machine, jump, distance):
    places, place = {}, 0
    for text, instruction, _ in MACHINES[machine][1]:
        octets = bytes.fromhex(text)
        places[instruction.partition(":")[0]] = place
        if instruction == jump:
            assert place + distance(octets) == places["next"]
        place += len(octets)
    assert jump in places


def test_its_answer_lies_between_two_readings_of_the_clock(tmp_path):
    path = tmp_path / "first"
    path.write_bytes(timed_program(os.uname().machine))
    path.chmod(0o755)
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        done = subprocess.run([path], capture_output=True, check=False)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.endswith(b"\n")
        assert before < int(done.stdout) < after


def test_another_machine_is_refused():
    with pytest.raises(HostError, match="isn't written for riscv64"):
        timed_program("riscv64")
