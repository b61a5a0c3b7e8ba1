"""The benchmark from end to end, in few rounds: what comes out has its shape, nothing stays, no time is judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from minicontainer.lab.bench.results import Results, from_document

BENCH = [sys.executable, "-m", "minicontainer.lab.bench"]
CHECKOUT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as ./lab does, and see that it leaves no folder behind."""
    before = os.listdir(tempfile.gettempdir())
    done = subprocess.run([*BENCH, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert sorted(os.listdir(tempfile.gettempdir())) == sorted(before)
    return done


def measured(folder: Path, only: str) -> Results:
    """The results of two rounds of these."""
    done = bench("--quick", "--rounds", "2", "--only", only, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return from_document(json.loads((folder / "bench.json").read_text()))


def expect_sound(results: Results, names: list[str]) -> None:
    """Everyone has two runs, and no run ended before it began."""
    assert [(entry.name, entry.reason) for entry in results.absent] == []
    assert [row.name for row in results.rows] == names
    for row in results.rows:
        assert len(row.first) == 2
        assert all(first > 0 for first in row.first)
        assert len(row.exit) == (0 if row.name == "start" else 2)
        assert all(first < end for first, end in zip(row.first, row.exit, strict=False))


def test_minicontainer_and_unshare(tmp_path: Path) -> None:
    results = measured(tmp_path, "plain,unshare,warm,start,command")
    expect_sound(results, ["plain", "unshare", "warm", "start", "command"])
    assert results.rounds == 2
    assert results.ratio("warm", "unshare", "first") is not None
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.peer("crun", "runc")
def test_runtimes(tmp_path: Path) -> None:
    expect_sound(measured(tmp_path, "crun,runc"), ["crun", "runc"])


@pytest.mark.peer("docker", "dockerd")
def test_docker_leaves_nothing(tmp_path: Path) -> None:
    places = [Path("/etc/docker"), Path("/run/docker"), Path("/run/containerd")]
    before = [sorted(place.rglob("*")) if place.exists() else None for place in places]
    expect_sound(measured(tmp_path, "docker-none,docker-host"), ["docker-host", "docker-none"])
    assert [sorted(place.rglob("*")) if place.exists() else None for place in places] == before


def test_what_does_not_work_is_listed_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in (("runc", "echo no luck >&2; exit 1"), ("unshare", 'exec /usr/bin/unshare "$@"')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    results = measured(tmp_path, "unshare,crun,runc")
    assert [row.name for row in results.rows] == ["unshare"]
    assert {entry.name: entry.reason for entry in results.absent} == {
        "crun": "crun isn't installed (./lab peers installs it)",
        "runc": "runc failed (exit code 1): no luck",
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_measures_it_removes_everything(number: signal.Signals) -> None:
    before = os.listdir(tempfile.gettempdir())
    command = [*BENCH, "--only", "warm,command,unshare", "--rounds", "10000"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) != "measuring\n":
            assert line, "it ended before it measured"
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; all that was started has been ended and removed\n"
    assert sorted(os.listdir(tempfile.gettempdir())) == sorted(before)
