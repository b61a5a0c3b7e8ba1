"""The program that tells when it began: a few hundred bytes of machine code, written by hand.

Layer: lab.bench (imports errors).

Its first act is to read the clock CLOCK_MONOTONIC; then it prints that, as nanoseconds in decimal and a line end, and
exits with 0. Whoever reads the same clock before starting it knows how long the way to its first instruction was. No
container has another CLOCK_MONOTONIC than its host (only a time namespace could change that: time_namespaces(7)); a
virtual machine has one of its own.

    0x00   ELF header       64 bytes    elf(5): what it is, for which processor, where it begins
    0x40   program header   56 bytes    map this whole file, readable and executable, at BASE
    0x78   code

It is static, so that any root file system can hold it, and as short as a program can be, so that nothing of its own
(loader, libraries, an interpreter) comes between the exec and the clock. Sources of the bytes: Intel's Software
Developer's Manual, volume 2; Arm's Architecture Reference Manual, C6.2; syscall(2) and the kernel's tables of numbers.
"""

from __future__ import annotations

import struct

from ...errors import HostError

BASE = 0x400000
"""Where the file is mapped: the customary address of static programs."""
HEADERS = 64 + 56

_X86_64 = (
    # Arguments go to rdi, rsi, rdx, the number of the call to rax.
    ("b8 e4000000", "mov eax, 228", "clock_gettime("),
    ("bf 01000000", "mov edi, 1", "  CLOCK_MONOTONIC,"),
    ("48 89e6", "mov rsi, rsp", "  over the argument count, which isn't needed)"),
    ("0f05", "syscall", ""),
    ("58", "pop rax", "seconds"),
    ("59", "pop rcx", "nanoseconds"),
    ("48 69c0 00ca9a3b", "imul rax, rax, 1000000000", ""),
    ("48 01c8", "add rax, rcx", "all in nanoseconds"),
    ("48 89e6", "mov rsi, rsp", "the text is written backwards, below the stack"),
    ("48 ffce", "dec rsi", ""),
    ("c6 06 0a", "mov byte [rsi], 10", "its line end"),
    ("bb 0a000000", "mov ebx, 10", ""),
    ("31d2", "next: xor edx, edx", ""),
    ("48 f7f3", "div rbx", "rax = rdx:rax / 10, rdx = the digit"),
    ("80c2 30", "add dl, '0'", ""),
    ("48 ffce", "dec rsi", ""),
    ("88 16", "mov [rsi], dl", ""),
    ("48 85c0", "test rax, rax", ""),
    ("75 ee", "jnz next", "18 bytes back"),
    ("48 89e2", "mov rdx, rsp", ""),
    ("48 29f2", "sub rdx, rsi", "the length of the text"),
    ("b8 01000000", "mov eax, 1", "write("),
    ("89c7", "mov edi, eax", "  1, rsi, rdx)"),
    ("0f05", "syscall", ""),
    ("b8 3c000000", "mov eax, 60", "exit("),
    ("31ff", "xor edi, edi", "  0)"),
    ("0f05", "syscall", ""),
)
_AARCH64 = (
    # Arguments go to x0, x1, x2, the number of the call to x8. An instruction is a word of four bytes, lowest first.
    ("200080d2", "mov x0, #1", "CLOCK_MONOTONIC"),
    ("e1030091", "mov x1, sp", "over the argument count"),
    ("280e80d2", "mov x8, #113", "clock_gettime"),
    ("010000d4", "svc #0", ""),
    ("e20f40a9", "ldp x2, x3, [sp]", "seconds, nanoseconds"),
    ("044099d2", "mov x4, #0xca00", ""),
    ("4473a7f2", "movk x4, #0x3b9a, lsl #16", "x4 = 1000000000"),
    ("420c049b", "madd x2, x2, x4, x3", "all in nanoseconds"),
    ("e1030091", "mov x1, sp", "the text is written backwards, below the stack"),
    ("45018052", "mov w5, #10", "its line end"),
    ("25fc1f38", "strb w5, [x1, #-1]!", ""),
    ("440180d2", "mov x4, #10", ""),
    ("4508c49a", "next: udiv x5, x2, x4", ""),
    ("a688049b", "msub x6, x5, x4, x2", "x6 = x2 - 10 x5, the digit"),
    ("c6c00011", "add w6, w6, #'0'", ""),
    ("26fc1f38", "strb w6, [x1, #-1]!", ""),
    ("e20305aa", "mov x2, x5", ""),
    ("62ffffb5", "cbnz x2, next", "five instructions back"),
    ("e3030091", "mov x3, sp", ""),
    ("620001cb", "sub x2, x3, x1", "the length of the text"),
    ("200080d2", "mov x0, #1", "standard output"),
    ("080880d2", "mov x8, #64", "write"),
    ("010000d4", "svc #0", ""),
    ("000080d2", "mov x0, #0", "success"),
    ("a80b80d2", "mov x8, #93", "exit"),
    ("010000d4", "svc #0", ""),
)
MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}
"""By uname -m: the machine's number in an ELF header (e_machine), and the code as (bytes, instruction, meaning)."""


def timed_program(machine: str) -> bytes:
    """The file of the program for this machine (as uname -m names it). Raises HostError for one that isn't known."""
    if machine not in MACHINES:
        raise HostError(
            f"the benchmark's program isn't written for {machine}", hint=f"it is for {' and '.join(MACHINES)}"
        )
    number, listing = MACHINES[machine]
    code = b"".join(bytes.fromhex(octets) for octets, _, _ in listing)
    size = HEADERS + len(code)
    # ELFCLASS64, little endian, version 1, System V
    identity = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)
    # ET_EXEC, machine, version; entry point, offset of the program header, no sections; flags; sizes and counts
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    # PT_LOAD, PF_R | PF_X; from offset 0 to BASE; size in the file and in memory; aligned for pages of up to 64 KiB
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x10000)
    return header + segment + code
