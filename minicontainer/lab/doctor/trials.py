"""What a machine allows, tried for real, in a process of its own.

Layer: lab (imports linux).

    the caller, maybe a notebook ──subprocess──▶ Python with one thread ──fork for each trial──▶ unshare, mount …
                                     JSON: {"mnt": "", "time": "Operation not permitted", …}   "" for success

Rules: the caller never forks or unshares, since a notebook's kernel has a dozen threads. A trial's namespaces, and the
mounts in them, end with its process. Trials use the same wrappers and the same Python as the engine, because AppArmor
judges by program: what unshare(1) may do, Python may not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ... import linux

NAMESPACES = {
    "mnt": linux.CLONE_NEWNS,
    "pid": linux.CLONE_NEWPID,
    "uts": linux.CLONE_NEWUTS,
    "ipc": linux.CLONE_NEWIPC,
    "net": linux.CLONE_NEWNET,
    "cgroup": linux.CLONE_NEWCGROUP,
    "user": linux.CLONE_NEWUSER,
    "time": linux.CLONE_NEWTIME,
}
"""The names as in /proc/PID/ns, and what unshare(2) calls them."""

SECONDS = 60
"""How long all trials together may take; they take about 0.1."""

_NOBODY = 65534
_PR_SET_DUMPABLE = 4
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minicontainer.lab.doctor import trials; trials.run(sys.argv[2])"
)


def outcomes(near: Path) -> dict[str, str]:
    """Try everything; overlay on the file system that `near` (a folder that exists) is on. "" is success.

    Where the trials can't be held at all, the answer is empty, and its reader says so.
    """
    package = Path(__file__).resolve().parents[3]
    try:
        folder = Path(tempfile.mkdtemp(prefix=".minicontainer-doctor-", dir=near))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix=".minicontainer-doctor-"))
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _START, str(package), str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        said: dict[str, str] = json.loads(done.stdout)
        return said
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove the folder of a trial. A user without privilege can't list what overlayfs keeps in it, only remove it."""
    with contextlib.suppress(OSError):
        (folder / "work/work").rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def run(folder: str) -> None:
    """In the process of their own: hold the trials, and print their outcomes as JSON."""
    trials: dict[str, Callable[[], None]] = {name: partial(_namespace, flag) for name, flag in NAMESPACES.items()}
    trials["mnt"] = _private_mounts
    trials["unprivileged"] = _unprivileged
    trials["overlay"] = partial(_overlay, Path(folder))
    trials["nft"] = _nft
    print(json.dumps({name: _in_a_fork(trial) for name, trial in trials.items()}))


def _in_a_fork(trial: Callable[[], None]) -> str:
    """Hold one trial: "" if it went well, else what the kernel said."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            trial()
        except OSError as error:
            said = error.strerror or str(error)
        except BaseException as error:  # noqa: BLE001  whatever it is, this process ends here
            said = repr(error)
        finally:
            os.write(writer, said.encode()[:4000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    return said or ("" if status == 0 else f"the trial ended with status {status}")


def _become_root_of_users() -> None:
    """Make a user namespace in which this user is root: user_namespaces(7)."""
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1\n")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1\n")


def _namespace(flag: int) -> None:
    if os.geteuid() != 0 and flag != linux.CLONE_NEWUSER:
        _become_root_of_users()
    linux.unshare(flag)


def _private_mounts() -> None:
    _namespace(linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)  # nothing of this reaches the host


def _unprivileged() -> None:
    """All the way to a mount, as a user without privilege: AppArmor lets the namespace be made, and takes its power."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        linux.prctl(_PR_SET_DUMPABLE, 1)  # or /proc/self would stay root's, its uid_map with it
    _become_root_of_users()
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)


def _overlay(folder: Path) -> None:
    lower, upper, work, merged = (folder / name for name in ("lower", "upper", "work", "merged"))
    for directory in (lower, upper, work, merged):
        directory.mkdir()
    (lower / "below").touch()
    rootless = os.geteuid() != 0
    _private_mounts()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}" + (",userxattr" if rootless else "")
    linux.mount("overlay", str(merged), "overlay", data=options)
    (merged / "below").rename(merged / "above")
    if not (upper / "above").exists():
        raise OSError("what was written doesn't arrive in the upper folder")


def _nft() -> None:
    """A table in a network namespace, which takes it along when it ends."""
    program = shutil.which("nft", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if program is None:
        raise OSError("not installed")
    _namespace(linux.CLONE_NEWNET)
    command = [program, "add table inet minicontainer_doctor; list tables"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "minicontainer_doctor" not in done.stdout:
        raise OSError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "the table was not made")
