"""JupyterLab's settings, port and announcements; the server itself is the browser tests' business."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from minicontainer.lab import server

GIB = 1024**3


@pytest.fixture
def busy():
    """A port that something listens on."""
    with socket.socket() as listener:
        listener.bind((server.ADDRESS, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def answering():
    """The port of an HTTP server that refuses everything, as JupyterLab does without its token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((server.ADDRESS, 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


def test_a_wanted_port_that_is_busy_is_one_sentence(busy):
    with pytest.raises(SystemExit, match=f"^lab: port {busy} is in use: [^.\n]*$"):
        server.choose_port(busy)


def test_without_a_wanted_port_the_next_free_one_is_taken(busy, monkeypatch):
    monkeypatch.setattr(server, "DEFAULT_PORT", busy)
    assert busy < server.choose_port(None) < busy + server.PORTS_TO_TRY


def test_no_free_port_is_one_sentence(busy, monkeypatch):
    monkeypatch.setattr(server, "DEFAULT_PORT", busy)
    monkeypatch.setattr(server, "PORTS_TO_TRY", 1)
    with pytest.raises(SystemExit, match="--port"):
        server.choose_port(None)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(SystemExit, match="is no port"):
        server.choose_port(port)


def test_the_token_is_for_its_owners_eyes(tmp_path):
    server.prepare(tmp_path, 8888, "secret-token")
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and "secret-token" in path.read_text()]
    assert len(holders) == 1
    assert holders[0].stat().st_mode & 0o777 == 0o600


def test_preparing_again_replaces_token_and_port(tmp_path):
    server.prepare(tmp_path, 8888, "first")
    environment = server.prepare(tmp_path, 8889, "second")
    settings = json.loads(Path(environment["JUPYTER_CONFIG_DIR"], "jupyter_lab_config.json").read_text())
    assert settings["IdentityProvider"]["token"] == "second"
    assert settings["ServerApp"]["port"] == 8889
    assert settings["ServerApp"]["ip"] == "127.0.0.1"


def test_everything_that_jupyter_writes_stays_in_the_cache(tmp_path):
    environment = server.prepare(tmp_path, 8888, "t")
    folders = [value for name, value in environment.items() if name != "PATH"]
    assert len(folders) == 5
    assert all(Path(folder).is_relative_to(tmp_path / ".cache" / "jupyter") for folder in folders)


def test_the_kernel_finds_the_command_that_belongs_to_it(tmp_path):
    path = server.prepare(tmp_path, 8888, "t")["PATH"]
    assert shutil.which("pytest", path=path) == str(Path(os.sys.executable).parent / "pytest")


@pytest.mark.parametrize(("memory", "culls_open_pages"), [(1 * GIB, True), (8 * GIB, False)])
def test_a_small_machine_gives_idle_kernels_up_sooner(tmp_path, memory, culls_open_pages):
    settings = server.server_settings(tmp_path, tmp_path, 8888, "t", memory)["MappingKernelManager"]
    assert settings["cull_connected"] is culls_open_pages
    assert 0 < settings["cull_idle_timeout"] <= 3600


def test_the_tunnel_line_names_the_address_that_the_client_used(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50000 198.51.100.7 22")
    monkeypatch.setenv("SUDO_USER", "ada")
    assert server.tunnel(8890) == "ssh -N -L 8890:127.0.0.1:8890 ada@198.51.100.7"


def test_without_ssh_the_tunnel_line_names_the_machine(monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "ada")
    assert server.tunnel(8888).endswith(f" ada@{os.uname().nodename}")


def test_root_needs_no_sudo(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert server.server_command({"A": "b"})[1:3] == ["-m", "jupyterlab"]


def test_others_become_root_by_sudo_and_take_the_settings_along(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("MINICONTAINER_ROOT", "/srv/state")
    command = server.server_command({"JUPYTER_DATA_DIR": "/x"})
    assert command[:2] == ["/usr/bin/sudo", "env"]
    assert {"JUPYTER_DATA_DIR=/x", "MINICONTAINER_ROOT=/srv/state"} <= set(command)
    assert not any("token" in word for word in command)  # everybody can read a command line
    assert "root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("allowed", "variables", "opened"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (True, {}, False),
        (False, {"DISPLAY": ":0"}, False),
        (True, {"DISPLAY": ":0", "SUDO_USER": "ada"}, False),
    ],
)
def test_a_browser_is_opened_where_there_is_a_display_and_a_person(monkeypatch, allowed, variables, opened):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert server.wants_browser(allowed) is opened


def test_link_and_tunnel_are_announced_when_the_server_answers(answering, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    server.announce(os.getpid(), answering, "http://the-link", browser=True)
    output = capsys.readouterr().out
    assert "http://the-link" in output
    assert server.tunnel(answering) in output
    assert opened == ["http://the-link"]


def test_nothing_is_announced_for_a_server_that_ended(capsys):
    with socket.socket() as unused:
        unused.bind((server.ADDRESS, 0))
        server.announce(2**22 + 1, unused.getsockname()[1], "http://the-link", browser=False)
    assert capsys.readouterr().out == ""


def test_a_server_that_never_answers_is_reported(capsys):
    with socket.socket() as unused:
        unused.bind((server.ADDRESS, 0))
        server.announce(os.getpid(), unused.getsockname()[1], "http://the-link", browser=False, limit=0.2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did not answer" in captured.err
