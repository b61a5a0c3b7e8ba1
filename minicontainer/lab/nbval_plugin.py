"""Notebooks as tests, without the ways in which nbval calls a broken one a success.

Layer: lab (imports nothing of the package). A pytest plugin on top of nbval's, which stays as it is:

    python -m pytest -p minicontainer.lab.nbval_plugin --nbval-lax --nbval-current-env notebooks/

What it changes, each with a test of its own:

    the kernel dies in a cell             nbval waits for the cell's timeout; here the cell fails within a second
    the cells after a death, a timeout    nbval reports them as xfail or xpass; here they fail, and name the first one
    a cell that never ends                the limit is 60 s instead of 2000, for the cell and not for each message;
                                          one that swallows the interrupt and prints on is ended all the same
    `%no_such_magic`, a replaced          nbval looks for an error among the outputs; here the kernel's reply to the
    showtraceback                         cell decides
    raises-exception, and nothing raised  passes in nbval's lax mode; here it fails
    a saved output without its            nbval compares nothing; here a cell whose output is to be checked fails
    execution count
    PYTEST_CURRENT_TEST                   kept from the kernel: with it, ipykernel drops what child processes print
    names                                 the cell's id, not its position; id and points are properties in JUnit's XML
    the kernel's end                      it is asked first, so that its atexit functions run, and then killed with
                                          all that is left of its process group

Rules: subclasses and a hook only, nothing of nbval is patched. Cells of one notebook share a kernel: with xdist,
use `--dist loadfile`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell, IPyNbFile

CELL_TIMEOUT = 60.0
"""Seconds a cell may take, unless --nbval-cell-timeout says otherwise."""

_NBVAL_CELL_TIMEOUT = 2000
_SLICE = 0.5  # seconds between two looks at whether the kernel is alive
_GRACE = 5.0  # seconds that a kernel has for its last messages once the cell's time is up


class KernelDied(Exception):
    """The kernel's process ended while something was waited for."""


class Kernel(RunningKernel):  # type: ignore[misc]
    """A kernel whose death is noticed, whose replies are kept, and who can't hold a cell open for ever."""

    def __init__(self, kernel_name: str, cwd: str, startup_timeout: float) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self.reply: dict[str, Any] = {}
        self._deadline = float("inf")
        with open(os.devnull, "w") as nowhere:
            self.km, self.kc = start_new_kernel(
                startup_timeout=startup_timeout, kernel_name=kernel_name, cwd=cwd, env=environment, stderr=nowhere
            )
        self._ensure_iopub_up()

    def get_message(self, stream: str, timeout: float | None = None) -> dict[str, Any]:
        """The next message of `stream`. Raises Empty after `timeout` seconds, KernelDied where none can come."""
        end = min(float("inf") if timeout is None else time.monotonic() + timeout, self._deadline)
        while True:
            alive = self.is_alive()  # asked first: what a dying kernel still said is in the queue and is read
            left = end - time.monotonic()
            try:
                message: dict[str, Any] = super().get_message(stream, timeout=max(0.0, min(_SLICE, left)))
                return message
            except Empty:
                if not alive:
                    raise KernelDied(f"the kernel died ({self._exit_status()})") from None
                if left <= _SLICE:
                    raise

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Wait for the reply to a request and keep it. `timeout` (seconds) is for all of the wait."""
        self.reply = {}
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout
        try:
            while True:
                message = self.get_message("shell")
                if message["parent_header"].get("msg_id") == msg_id:
                    self.reply = message["content"]
                    return
        finally:
            # The outputs come after the reply. A cell that ignores the interrupt and prints on would never be done.
            self._deadline = time.monotonic() + _GRACE

    def stop(self) -> None:
        """End the kernel and the processes of its group that outlived it.

        It is asked to end first. ipykernel runs no atexit function as long as children in its own process group are
        there, and is killed after a few seconds: what is to survive or to be cleaned up gets a group of its own.
        """
        if not hasattr(self, "km"):
            return
        group = getattr(self.km.provisioner, "pgid", None)
        self.kc.stop_channels()
        self.km.shutdown_kernel(now=False)
        del self.km
        if group:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _exit_status(self) -> str:
        process = getattr(self.km.provisioner, "process", None)
        status = None if process is None else process.poll()
        if status is not None and status < 0:
            return signal.Signals(-status).name
        return f"exit status {status}"


class Notebook(IPyNbFile):  # type: ignore[misc]
    """A notebook whose cells run in one hardened kernel."""

    lost = ""
    """Why no further cell can be run; empty as long as they can."""

    def collect(self) -> Iterator[Cell]:
        """Its code cells, in order, each named by its id."""
        for item in super().collect():
            name = item.cell.get("id") or f"cell-{item.cell_num}"
            yield Cell.from_parent(self, name=name, cell_num=item.cell_num, cell=item.cell, options=item.options)

    def setup(self) -> None:
        """Start the kernel that nbval's options ask for, or else the notebook's own."""
        option = self.config.option
        name = self.nb.metadata.get("kernelspec", {}).get("name", "python")
        if option.nbval_current_env:
            name = CURRENT_ENV_KERNEL_NAME
        elif option.nbval_kernel_name:
            name = option.nbval_kernel_name
        self.kernel = Kernel(name, cwd=str(self.path.parent), startup_timeout=option.nbval_kernel_startup_timeout)
        self.setup_sanitize_files()

    def teardown(self) -> None:
        """End the kernel, dead or alive, with what it left running."""
        if self.kernel is not None:
            self.kernel.stop()


class Cell(IPyNbCell):  # type: ignore[misc]
    """A code cell that passes only if it was run, to its end, without an error that it hadn't announced."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.user_properties.append(("cell_id", self.name))
        points = self.cell.metadata.get("minicontainer", {}).get("points")
        if points is not None:
            self.user_properties.append(("points", points))

    def setup(self) -> None:
        """Nothing: nbval would mark the cells after a timeout as expected to fail."""

    def runtest(self) -> None:
        """Run the cell and judge it by its outputs, as nbval does, and by the kernel's reply."""
        if self.options["skip"]:
            pytest.skip("the cell is marked NBVAL_SKIP")
        if self.options["check"] and self.cell.execution_count is None:
            self.raise_cell_error("Its output is to be checked, but the saved one has no execution count")
        if self.parent.lost:
            self.raise_cell_error(f"Not run: {self.parent.lost}")
        try:
            super().runtest()
        except KernelDied as death:
            self.parent.lost = f"{death} in cell {self.name!r}"
            self.raise_cell_error(f"While it ran, {death}")
        finally:
            if self.parent.timed_out and not self.parent.lost:
                self.parent.lost = f"cell {self.name!r} timed out"
        self._judge(self.parent.kernel.reply)

    def _judge(self, reply: dict[str, Any]) -> None:
        failed = reply.get("status") != "ok"
        if failed and not self.options["check_exception"]:
            self.raise_cell_error(f"The kernel answered with {reply.get('ename')}: {reply.get('evalue')}")
        if self.options["check_exception"] and not failed:
            self.raise_cell_error("It is marked as raising an exception, and raised none")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        """What pytest prints for a failure: the cell's id, then nbval's report."""
        return f"{self.path.name}, cell {self.name!r}\n{super().repr_failure(excinfo)}"

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the cell is, as pytest's headings and JUnit's XML name it."""
        return self.path, 0, f"{self.path.name}::{self.name}"


def pytest_configure(config: pytest.Config) -> None:
    """Lower nbval's limit for a cell, where the command line says nothing else."""
    if config.option.nbval_cell_timeout == _NBVAL_CELL_TIMEOUT:
        config.option.nbval_cell_timeout = CELL_TIMEOUT


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, list[Any], list[Any]]:
    """Put a hardened notebook in the place of each that nbval collects."""
    found = yield
    return [Notebook.from_parent(parent, path=file_path) if type(node) is IPyNbFile else node for node in found]
