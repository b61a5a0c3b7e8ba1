"""A guest's console, as it comes: in pieces, with carriage returns, with markers behind unfinished lines."""

from __future__ import annotations

from minicontainer.lab.measure import Milestone
from minicontainer.lab.vm.console import MOST_LINES, Console

MARK = "@minicontainer-0123"
BOOT = (
    "\x1b[2JSeaBIOS\r\n"
    "[    0.000000] Linux version 6.1.0-9-cloud-amd64 (someone@somewhere) #1 SMP\r\n"
    "[    0.5] something went wrong, but not badly\r\n"
    f"{MARK} userspace 1.31\r\n"
    "mount: something of ours, before the workload\r\n"
    f"{MARK} run 1.40\r\n"
)


def fed(*pieces: str) -> Console:
    """A console that got these pieces, one each second."""
    console = Console("0123")
    for second, piece in enumerate(pieces, 1):
        console.feed(piece.encode(), float(second))
    console.end(float(len(pieces) + 1))
    return console


def test_a_whole_life():
    console = fed(BOOT, "hello\r\nworld\r\n", f"{MARK} exit 1.45 3 0\r\n")
    assert console.milestones == [
        Milestone("kernel", 1.0),
        Milestone("userspace", 1.0),
        Milestone("workload", 2.0),
        Milestone("exit", 3.0),
    ]
    assert console.output == ["hello", "world"]
    assert (console.exit_code, console.killed, console.panic, console.failure) == (3, 0, "", "")


def test_it_doesnt_matter_how_the_bytes_are_cut():
    whole = BOOT + "hello\r\n" + f"{MARK} exit 1.45 0 0\r\n"
    console = Console("0123")
    for number, byte in enumerate(whole.encode()):
        console.feed(bytes([byte]), float(number))
    assert console.output == ["hello"]
    assert [milestone.name for milestone in console.milestones] == ["kernel", "userspace", "workload", "exit"]


def test_an_unfinished_line_before_a_marker_is_output():
    console = fed(BOOT, f"no line end{MARK} exit 1.45 0 0\r\n")
    assert console.output == ["no line end"]
    assert console.exit_code == 0


def test_a_silent_workload_reaches_no_line():
    console = fed(BOOT, f"{MARK} exit 1.45 0 0\r\n")
    assert not console.has("workload")
    assert console.has("exit")


def test_an_empty_line_is_a_line():
    assert fed(BOOT, "\r\n").output == [""]


def test_kernel_lines_are_not_output_and_a_panic_ends_it():
    console = fed(
        BOOT,
        "hello\r\n[    9.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x9\r\n",
        "[ 9.2] CPU: 0\r\n",
    )
    assert console.output == ["hello"]
    assert console.panic == "Attempted to kill init! exitcode=0x9"


def test_what_the_workload_says_of_linux_versions_is_no_kernel_milestone():
    console = fed(f"{MARK} userspace 1\n{MARK} run 1\n", "Linux version 9\r\n")
    assert not console.has("kernel")
    assert console.output == ["Linux version 9"]


def test_another_machines_marker_is_text():
    assert fed(BOOT, "@minicontainer-9999 exit 1 0 0\r\n").output == ["@minicontainer-9999 exit 1 0 0"]


def test_memory_that_ran_out_is_counted():
    console = fed(BOOT, f"{MARK} exit 1.45 137 2\r\n")
    assert (console.exit_code, console.killed) == (137, 2)


def test_a_failure_and_a_command_that_cannot_run():
    assert (
        fed(f"{MARK} failed 1.2 the image's disk can't be mounted\r\n").failure == "the image's disk can't be mounted"
    )
    console = fed(BOOT, f"{MARK} cannot 0 nosuch: not found\r\n{MARK} exit 1 127 0\r\n")
    assert console.unrunnable == "nosuch: not found"
    assert not console.has("workload")
    assert console.output == []


def test_the_beginning_and_the_end_of_much_output_are_kept():
    lines = [str(number) for number in range(5 * MOST_LINES)]
    output = fed(BOOT, "".join(f"{line}\r\n" for line in lines)).output
    assert len(output) == MOST_LINES
    assert output[: MOST_LINES // 2] == lines[: MOST_LINES // 2]
    assert output[-1] == lines[-1]


def test_a_line_without_end_is_taken_in_pieces():
    console = fed(BOOT, *["x" * 10000] * 10)
    assert sum(map(len, console.output)) == 100_000
    assert max(map(len, console.output)) <= 30_000


def test_bytes_that_are_no_text_do_no_harm():
    console = Console("0123")
    console.feed(BOOT.encode() + b"\xff\xfe\n", 1.0)
    assert console.output == ["\ufffd\ufffd"]
