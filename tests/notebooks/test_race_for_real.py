"""Races of real containers and machines: what is measured, and that nothing survives, however the notebook ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ipywidgets", reason="the extra [lab] isn't installed")
pytest.importorskip("jupyter_client", reason="the extra [lab] isn't installed")

from jupyter_client.manager import start_new_kernel

from minicontainer import Engine
from minicontainer.images import ImageStore
from minicontainer.images.bootstrap import bootstrap
from minicontainer.lab.contestant import ContainerContestant
from minicontainer.lab.footprint import footprint, leftovers
from minicontainer.lab.result import MIB
from minicontainer.paths import Paths

pytestmark = pytest.mark.kernel

APP = ["sh", "-c", "uname -r; echo second; exec sleep 60"]
RACING = """
import sys, time
from minicontainer import Engine
from minicontainer.lab.race import ContainerContestant, Race
app = ["sh", "-c", "echo up; exec sleep 60"]
race = Race(ContainerContestant(Engine(sys.argv[1]), "busybox", app), settle=60).start()
while "workload" not in race.svg():
    time.sleep(0.05)
print("racing", flush=True)
"""


@pytest.fixture
def engine(state: Paths) -> Iterator[Engine]:
    """An engine on a state folder of its own, with busybox."""
    bootstrap(ImageStore(state), "busybox", progress=lambda _: None)
    engine = Engine(state)
    yield engine
    for container in engine.containers.list(all=True):  # of a test that failed
        container.remove(force=True)
    engine.close()


def eventually(condition: Callable[[], object], limit: float = 60) -> None:
    """Wait for something that another process does. The limit is only there so that a failure ends."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_container_is_measured_as_it_happened(engine: Engine) -> None:
    racer = ContainerContestant(engine, "busybox", APP)
    racer.start()
    try:
        eventually(lambda: len(racer.snapshot().output) == 2)
        shot = racer.snapshot()
        process, workload = shot.milestones
        assert (process.name, workload.name) == ("process", "workload")
        assert 0 < process.seconds <= workload.seconds <= shot.samples[0].seconds + 60
        assert shot.output == (os.uname().release, "second")
        # Its processes and the monitor, a Python: more than busybox alone, less than a machine.
        assert MIB // 4 < shot.samples[-1].bytes < 100 * MIB
        assert not shot.done
    finally:
        racer.stop()
    assert engine.states(ended=True) == []


def test_the_footprint_shows_what_runs_and_what_was_left(engine: Engine) -> None:
    before = footprint(engine)
    container = engine.containers.run("busybox", ["sleep", "60"], detach=True, name="forgotten")
    left = leftovers(engine, before, patience=0)
    assert [name.split(" ")[0] for name in left.containers] == ["forgotten"]
    assert [process.split(" ", 1)[1] for process in left.processes] == ["sleep 60"]
    assert left.cgroups
    assert all(container.id in group for group in left.cgroups)
    assert "forgotten" in left._repr_html_()
    container.remove(force=True)
    assert not leftovers(engine, before)


def test_a_container_that_ended_is_a_leftover_too(engine: Engine) -> None:
    before = footprint(engine)
    engine.containers.run("busybox", ["true"])
    left = leftovers(engine, before, patience=0)
    assert len(left.containers) == 1
    assert not left.processes


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "1 / 0"])
def test_the_end_of_a_program_ends_its_race(engine: Engine, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACING + ending, engine.paths.state], capture_output=True, text=True, check=False
    )
    assert done.stdout == "racing\n", done.stderr
    assert engine.states(ended=True) == []


def test_the_next_race_removes_what_a_killed_notebook_left(engine: Engine) -> None:
    before = footprint(engine)
    with subprocess.Popen(
        [sys.executable, "-c", RACING + "time.sleep(60)", engine.paths.state], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "racing\n"
        program.send_signal(signal.SIGKILL)
    assert len(engine.states()) == 1  # a detached container outlives its engine
    racer = ContainerContestant(engine, "busybox", APP)
    racer.start()
    racer.stop()
    assert not leftovers(engine, before)


@pytest.mark.guest
def test_a_kernel_restarted_in_the_middle_of_a_race_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    engine = Engine()  # on the state folder that `./lab setup` has put a guest kernel into
    before = footprint(engine)
    manager, client = start_new_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        reply = client.execute_interactive(
            "from minicontainer import Engine\n"
            "from minicontainer.lab import vm\n"
            "from minicontainer.lab.race import ContainerContestant, Race\n"
            "engine, app = Engine(), ['sh', '-c', 'echo up; exec sleep 60']\n"
            "machine = vm.boot(engine.paths, 'busybox', app)\n"
            "race = Race(ContainerContestant(engine, 'busybox', app), machine, settle=60).start()\n",
            timeout=120,
            output_hook=lambda _: None,
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        eventually(lambda: any("qemu" in process for process in footprint(engine).beyond(before).processes))
        eventually(lambda: footprint(engine).beyond(before).containers)
        client.stop_channels()
        manager.restart_kernel()
        assert not leftovers(engine, before)
    finally:
        manager.shutdown_kernel(now=True)
