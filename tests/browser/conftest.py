"""A JupyterLab with the course's own settings, and a Chromium that looks at it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the extra [test] isn't installed")
pytest.importorskip("jupyterlab", reason="the extra [lab] isn't installed")

from playwright import sync_api as playwright

from minicontainer.lab.server import ADDRESS, choose_port, prepare, server_command

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 60
"""Seconds for the server to answer; a slow machine needs ten."""


@dataclass
class Lab:
    """A running JupyterLab on a copy of the notebooks."""

    port: int
    token: str

    def link(self, notebook: str) -> str:
        """The page of one notebook, with a fresh workspace."""
        return f"http://{ADDRESS}:{self.port}/lab/tree/notebooks/{notebook}?token={self.token}&reset"

    def answers(self) -> bool:
        """Is the server up?"""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{ADDRESS}:{self.port}/api/status?token={self.token}", timeout=2):
                return True
        except OSError:
            return False


@dataclass
class Watched:
    """A page, with what it complained of and whom it asked."""

    page: Any
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def listen(self, port: int) -> None:
        """Take note of console errors, failed requests, and requests to anyone but our server."""
        ours = (f"http://{ADDRESS}:{port}/", f"ws://{ADDRESS}:{port}/", "data:", "blob:", "about:")
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.failed.append(f"{request.url} {request.failure}"))
        self.page.on(
            "request", lambda request: None if request.url.startswith(ours) else self.foreign.append(request.url)
        )
        self.page.on(
            "websocket", lambda socket: None if socket.url.startswith(ours) else self.foreign.append(socket.url)
        )


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as `./lab up` sets it up, on a copy of the notebooks, ended at the end."""
    folder = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(CHECKOUT / "notebooks", folder / "notebooks")
    lab = Lab(choose_port(None), secrets.token_hex(8))
    environment = prepare(folder, lab.port, lab.token)
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            server_command(environment),
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not lab.answers():
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's Chromium, headless, or Playwright's own where there is none."""
    system = shutil.which("chromium")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(
                executable_path=system, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium to drive (./lab test installs it): {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(jupyter: Lab, chromium: Any) -> Iterator[Callable[[str], Watched]]:
    """`visit("00-the-race.ipynb")` opens a notebook in a new page, which is closed at the end."""
    pages = []

    def open_notebook(name: str) -> Watched:
        watched = Watched(chromium.new_page(viewport={"width": 1400, "height": 1000}))
        pages.append(watched.page)
        watched.listen(jupyter.port)
        watched.page.goto(jupyter.link(name))
        return watched

    yield open_notebook
    for page in pages:
        page.close()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where pictures of a run are kept; git ignores it."""
    folder = CHECKOUT / "artefacts" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
