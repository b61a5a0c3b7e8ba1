"""JupyterLab for the course: on 127.0.0.1 alone, with a token, as root where containers need it.

Layer: lab (the classroom side; imports nothing of the engine). `./lab up` ends here, by

    python -m minicontainer.lab.server [--port N] [--no-browser]

which writes the server's settings, then becomes the server (exec). Everything that Jupyter writes for itself (settings,
run-time files, signatures, histories, figure caches) goes to .cache/jupyter in the checkout, so that a person's own
Jupyter neither changes the course nor is changed by it, and `./lab clean` takes all of it away:

    .cache/jupyter/config/jupyter_lab_config.json   the server's settings, for its owner's eyes: the token is in there
    .cache/jupyter/settings/overrides.json          the page's settings
    .cache/jupyter/{data,runtime,ipython,matplotlib}/
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path

ADDRESS = "127.0.0.1"
DEFAULT_PORT = 8888
PORTS_TO_TRY = 50
FIRST_CHAPTER = "notebooks/00-the-race.ipynb"
SMALL_MACHINE = 2 * 1024**3
"""Bytes of memory below which an idle kernel (50 to 100 MB) is worth more than the variables in it."""

PAGE_SETTINGS = {
    # The news popup asks the Internet at every start, and stands in the way of the first page.
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # Cells that are off screen stay in the page: a live figure goes on, and searching in the page finds everything.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


def is_free(port: int) -> bool:
    """Can a server listen on `port` of 127.0.0.1 now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: ended connections don't count
        try:
            probe.bind((ADDRESS, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EACCES:
                raise SystemExit(f"lab: port {port} is root's, as all below 1024: choose a higher one") from None
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def choose_port(wanted: int | None) -> int:
    """`wanted` if it is free, or the first free port from 8888 on. SystemExit with one sentence if there is none."""
    if wanted is not None:
        if not 0 < wanted < 65536:
            raise SystemExit(f"lab: {wanted} is no port: ports go from 1 to 65535")
        if not is_free(wanted):
            raise SystemExit(f"lab: port {wanted} is in use: choose another, or leave --port out for the next free one")
        return wanted
    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TO_TRY):
        if is_free(port):
            return port
    raise SystemExit(f"lab: no free port from {DEFAULT_PORT} on: choose one with --port")


def memory_of_host() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def server_settings(checkout: Path, jupyter: Path, port: int, token: str, memory: int) -> dict[str, dict[str, object]]:
    """The settings of JupyterLab's server, by class (`jupyter lab --help-all` explains each)."""
    small = memory < SMALL_MACHINE
    return {
        "ServerApp": {
            "ip": ADDRESS,
            "port": port,
            "port_retries": 0,  # the link that we print is the link that works
            "root_dir": str(checkout),
            "allow_root": True,
            "open_browser": False,
            "answer_yes": True,  # one Ctrl-C ends it
        },
        "IdentityProvider": {"token": token},
        "LabApp": {
            "app_settings_dir": str(jupyter / "settings"),
            "extension_manager": "readonly",
            "log_level": "ERROR",
        },
        # One kernel at a time is what 1 GiB carries beside a virtual machine: there, one that did nothing for ten
        # minutes goes even while its page is open; elsewhere it goes an hour after its page was closed.
        "MappingKernelManager": {
            "cull_idle_timeout": 600 if small else 3600,
            "cull_interval": 60,
            "cull_connected": small,
        },
    }


def prepare(checkout: Path, port: int, token: str) -> dict[str, str]:
    """Write the settings under `checkout`/.cache/jupyter; the environment variables that a server needs to use them."""
    jupyter = checkout / ".cache" / "jupyter"
    for name in ("config", "settings", "data", "runtime", "ipython", "matplotlib"):
        (jupyter / name).mkdir(parents=True, exist_ok=True)
    (jupyter / "settings" / "overrides.json").write_text(json.dumps(PAGE_SETTINGS, indent=1))
    config = jupyter / "config" / "jupyter_lab_config.json"
    config.unlink(missing_ok=True)
    settings = server_settings(checkout, jupyter, port, token, memory_of_host())
    with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=1)
    return {
        "JUPYTER_CONFIG_DIR": str(jupyter / "config"),
        "JUPYTER_DATA_DIR": str(jupyter / "data"),
        "JUPYTER_RUNTIME_DIR": str(jupyter / "runtime"),
        "IPYTHONDIR": str(jupyter / "ipython"),
        "MPLCONFIGDIR": str(jupyter / "matplotlib"),
        # `!minicontainer …` in a cell finds the command that belongs to the kernel.
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }


def trust_chapters(checkout: Path, environment: dict[str, str]) -> None:
    """Sign the course's own notebooks: in others JupyterLab hides the saved pictures (jupyter-trust(1))."""
    chapters = sorted(map(str, (checkout / "notebooks").glob("*.ipynb")))
    command = [sys.executable, "-m", "jupyter", "trust", "--log-level=ERROR", *chapters]
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)


def server_command(environment: dict[str, str]) -> list[str]:
    """The command that becomes the server: this interpreter's JupyterLab, through sudo for those who aren't root."""
    jupyter = [sys.executable, "-m", "jupyterlab", "--log-level=ERROR"]
    if os.geteuid() == 0:
        return jupyter
    sudo = shutil.which("sudo")
    if sudo is None:
        print(
            "lab: neither root nor sudo: JupyterLab runs as you, and chapters that need root will say so",
            file=sys.stderr,
        )
        return jupyter
    print("lab: JupyterLab runs as root, through sudo: what its notebooks start are real containers", file=sys.stderr)
    kept = {name: os.environ[name] for name in ("MINICONTAINER_ROOT", "LANG", "TERM") if name in os.environ}
    return [sudo, "env", *(f"{name}={value}" for name, value in {**kept, **environment}.items()), *jupyter]


def tunnel(port: int) -> str:
    """The line to type on one's own computer when this one is a server: it brings the port there (ssh(1), -L)."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    # "client-address client-port server-address server-port": the name under which the client has just reached us.
    connection = os.environ.get("SSH_CONNECTION", "").split()
    host = connection[2] if len(connection) == 4 else os.uname().nodename
    return f"ssh -N -L {port}:{ADDRESS}:{port} {user}@{host}"


def answers(port: int) -> bool:
    """Does an HTTP server on `port` answer?"""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{ADDRESS}:{port}/api", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def announce(server: int, port: int, link: str, browser: bool, limit: float = 180) -> None:
    """Wait until process `server` answers on `port`, at most `limit` seconds; then print the link and the tunnel."""
    deadline = time.monotonic() + limit
    while not answers(port):
        if not os.path.exists(f"/proc/{server}"):
            return  # it has said why itself
        if time.monotonic() > deadline:
            print(f"lab: JupyterLab did not answer within {limit:.0f} s", file=sys.stderr)
            return
        time.sleep(0.1)
    print(
        f"\n  The course is open; Ctrl-C here ends it.\n\n"
        f"    link     {link}\n"
        f"    tunnel   {tunnel(port)}\n"
        f"             (type it on your own computer if this one is a server, then open the link there)\n",
        flush=True,
    )
    if browser:
        webbrowser.open(link)


def in_grandchild(action: Callable[[], None]) -> None:
    """Call `action` in a process that nobody has to wait for, because its parent ends at once (fork(2), twice)."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            with contextlib.suppress(KeyboardInterrupt):
                action()
        os._exit(0)
    os.waitpid(child, 0)


def wants_browser(allowed: bool) -> bool:
    """Is there a display, and a person's browser to open on it? Never root's on a person's display."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return allowed and bool(display) and "SUDO_USER" not in os.environ


def main(arguments: list[str]) -> None:
    """Become the JupyterLab of this checkout. Doesn't return."""
    parser = argparse.ArgumentParser(prog="lab up")
    parser.add_argument("--port", type=int)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args(arguments)
    checkout = Path(__file__).resolve().parents[2]
    port = choose_port(options.port)
    token = secrets.token_hex(24)
    environment = prepare(checkout, port, token)
    trust_chapters(checkout, environment)
    page = f"/tree/{FIRST_CHAPTER}" if (checkout / FIRST_CHAPTER).exists() else ""
    link = f"http://{ADDRESS}:{port}/lab{page}?token={token}"
    command = server_command(environment)
    print("lab: starting JupyterLab …", file=sys.stderr, flush=True)
    server = os.getpid()  # stays the same through exec
    in_grandchild(lambda: announce(server, port, link, wants_browser(not options.no_browser)))
    os.chdir(checkout)
    os.execvpe(command[0], command, {**os.environ, **environment})


if __name__ == "__main__":
    main(sys.argv[1:])
