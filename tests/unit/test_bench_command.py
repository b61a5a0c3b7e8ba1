"""`./lab bench`: what it takes, what it refuses, and the machine that it names."""

from __future__ import annotations

import json
import os
import signal

import pytest

from minicontainer.errors import InvalidArgument, MissingTool
from minicontainer.lab.bench import __main__ as command
from minicontainer.lab.bench import entrants, host, report
from minicontainer.lab.bench.entrants import LABELS
from minicontainer.lab.bench.results import Absent, Results, Row
from minicontainer.paths import Paths

ROW = Row("unshare", LABELS["unshare"], "2.38", "a note", (2_000_000, 3_000_000), (4_000_000, 5_000_000))
RESULTS = Results("2025-01-31T12:00:00Z", 2, 1, 7, {"processor": "Zilog Z80"}, (ROW,), (), None)


@pytest.fixture
def measured(monkeypatch):
    """Whatever is asked for, RESULTS come out."""
    monkeypatch.setattr(command, "bench", lambda _: RESULTS)


def test_names_are_chosen():
    everything = [*LABELS, "vm"]
    assert command.chosen(None, no_docker=False, no_vm=False) == everything
    left = [name for name in LABELS if not name.startswith("docker")]
    assert command.chosen(None, no_docker=True, no_vm=True) == left
    assert command.chosen("vm, warm", no_docker=False, no_vm=False) == ["vm", "warm"]


@pytest.mark.parametrize("only", ["podman", "", "warm,,crun", "docker"])
def test_an_unknown_name_is_refused_with_those_there_are(only):
    with pytest.raises(InvalidArgument, match="nothing to measure is called") as caught:
        command.chosen(only, no_docker=False, no_vm=False)
    assert "docker-none" in caught.value.hint


def test_nothing_left_to_measure_is_refused():
    with pytest.raises(InvalidArgument, match="nothing left"):
        command.chosen("vm,docker-none", no_docker=True, no_vm=True)


@pytest.mark.parametrize(
    ("arguments", "user", "said"),
    [
        (["--rounds", "0"], 0, "error: 0 rounds are too few\nhint: "),
        (["--only", "podman"], 0, "error: nothing to measure is called 'podman'\nhint: "),
        (
            [],
            1000,
            "error: unshare, crun and runc are measured as root, and so is minicontainer\nhint: sudo ./lab bench",
        ),
        (["--markdown", "/nonexistent/file"], 0, "error: can't read /nonexistent/file: No such file"),
    ],
)
def test_mistakes_are_a_sentence_and_a_hint(arguments, user, said, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert command.main(arguments) == 1
    assert capsys.readouterr().err.startswith(said)


def test_numbers_and_picture_are_written_where_asked(measured, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path / "new" / "folder")]) == 0
    assert json.loads((tmp_path / "new/folder/bench.json").read_text())["rows"][0]["first"] == [2_000_000, 3_000_000]
    assert (tmp_path / "new/folder/bench.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == report.table(RESULTS)
    assert command.main(["--json", str(tmp_path / "elsewhere.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "elsewhere.json").exists()
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["bench.png"]


def test_a_part_replaces_nothing(measured, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(["--only", "unshare"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert command.main([]) == 0
    assert sorted(path.name for path in (tmp_path / "artefacts").iterdir()) == ["bench.json", "bench.png"]


def test_a_place_that_cannot_be_written_is_named(measured, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command.main(["--out", str(tmp_path / "file" / "folder")]) == 1
    assert f"error: can't write {tmp_path}/file/folder: Not a directory" in capsys.readouterr().err


def test_markdown_comes_from_the_json(measured, tmp_path, capsys):
    assert command.main(["--only", "unshare", "--json", str(tmp_path / "run.json")]) == 0
    capsys.readouterr()
    assert command.main(["--markdown", str(tmp_path / "run.json")]) == 0
    assert capsys.readouterr().out == report.markdown(RESULTS)


@pytest.mark.parametrize(("text", "said"), [("{", "isn't JSON"), ("[]", "not results of this benchmark")])
def test_what_is_no_result_is_refused(text, said, tmp_path, capsys):
    (tmp_path / "file").write_text(text)
    assert command.main(["--markdown", str(tmp_path / "file")]) == 1
    assert said in capsys.readouterr().err


def test_nothing_measured_is_a_failure(monkeypatch, capsys):
    nothing = Results("", 1, 0, 7, {}, (), (Absent("crun", "crun run", "not installed"),), None)
    monkeypatch.setattr(command, "bench", lambda _: nothing)
    assert command.main(["--only", "crun"]) == 1
    assert "crun: crun run: not installed" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_once_and_the_second_waits(number, monkeypatch, capsys):
    cleaned = []

    def interrupted(given):
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            cleaned.append(True)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(command, "bench", interrupted)
    assert command.main([]) == 130
    assert cleaned == [True]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_terminal_without_the_sign_gets_a_question_mark(measured, monkeypatch, capfd):
    class Ascii:
        encoding = "ascii"

        def write(self, text: str) -> None:
            os.write(1, text.encode(self.encoding))

        def flush(self) -> None:
            pass

    monkeypatch.setattr("sys.stdout", Ascii())
    assert command.main(["--only", "unshare"]) == 0
    assert "? unshare" in capfd.readouterr().out


# ── the machine ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD  EPYC 7B13\n\nprocessor\t: 1\nmodel name\t: other\n", "AMD EPYC 7B13"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "0x41 0xd0c"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n\nHardware\t: BCM2835\n", "BCM2835"),
        ("", "unknown"),
    ],
)
def test_the_processor_is_named(cpuinfo, name, tmp_path):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert host.processor(str(tmp_path / "cpuinfo")) == name


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    (tmp_path / "mountinfo").write_text(
        "20 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "21 20 0:5 / /var rw shared:2 - xfs /dev/sdb rw\n"
        "22 20 0:6 / /var/tmpfs rw - tmpfs tmpfs rw\n"
    )
    kinds = [host.file_system(folder, str(tmp_path / "mountinfo")) for folder in ("/home", "/var/tmp", "/var/tmpfs/x")]
    assert kinds == ["ext4", "xfs", "tmpfs"]


def test_this_machine_is_described(tmp_path):
    facts = host.describe(Paths(state=str(tmp_path)))
    assert facts["kernel"].startswith(os.uname().release)
    assert all(facts.values())
    assert {"processor", "cores", "cgroup", "Python"} <= set(facts)


# ── who takes part ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_program_says_how_to_get_it():
    with pytest.raises(MissingTool) as caught:
        entrants.find("no-such-runtime")
    assert entrants.reason_of(caught.value) == "no-such-runtime isn't installed (./lab peers installs it)"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("unshare from util-linux 2.38.1", "util-linux 2.38.1"),
        ("crun version 1.8.1\ncommit: f8a0\n", "1.8.1"),
        ("runc version 1.1.5+ds1", "1.1.5+ds1"),
        ("Docker version 20.10.24+dfsg1, build 297e128", "20.10.24+dfsg1"),
        ("", "unknown"),
    ],
)
def test_versions_are_read(said, version, tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    program.chmod(0o755)
    assert entrants.version_of(str(program)) == version
