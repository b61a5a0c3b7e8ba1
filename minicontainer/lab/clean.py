"""Take away what the lab left on this host, and prove that nothing is left.

Layer: lab, and alone in it: it imports nothing of the package, so that a broken checkout or state doesn't stop it.
`./lab clean` calls it with any Python of the system: `python3 -I minicontainer/lab/clean.py --checkout DIR [--all]`.

What is ours, and how it is known:

    processes    a container's: in a cgroup below `minicontainer`; the engine's own, by name; a virtual machine's:
                 a QEMU with files of the state folder; JupyterLab's and its kernels': their settings are in this
                 checkout. What shows that it belongs to another state folder is left alone.
    mounts       those below the state folder
    cgroups      `minicontainer` in every hierarchy, and what is below it
    interfaces   the bridge `mc0`
    firewall     the nft tables `minicontainer`
    files        in the state folder, what the engine names so; in the checkout, .cache (and .venv with --all)

Rules: look, act, look again: the report is the second look. Nothing is deleted while something is mounted below it. A
process is held by a descriptor (pidfd_open(2)) before it is looked at, so that its number can't pass to another.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

GROUP = "minicontainer"
BRIDGE = "mc0"
DEFAULT_STATE = "/var/lib/minicontainer"
STATE_NAMES = {"images", "layers", "containers", "names", "volumes", "networks", "build-cache", "lab"}
"""What the engine makes in a state folder; beside these, what ends in `.lock` and `.tmp`."""
NEWBORN = 60.0  # seconds in which a cgroup is young
PATIENCE = 5.0  # seconds that a process gets to end by itself


@dataclass
class Host:
    """Where to look, and what was seen: our containers, and whose processes were left alone."""

    state: Path
    checkout: Path
    caches: list[Path] = field(default_factory=list)
    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    net: Path = Path("/sys/class/net")
    containers: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


def mounts_below(host: Host) -> list[str]:
    """Mount points strictly below the state folder, the last mounted first (proc_pid_mountinfo(5))."""
    escaped = [os.fsencode(line.split(" ")[4]) for line in lines(host.proc / "self/mountinfo")]
    points = [os.fsdecode(point.decode("unicode_escape").encode("latin-1")) for point in escaped]
    return [point for point in points[::-1] if point.startswith(f"{host.state}/")]


def containers(host: Host) -> set[str]:
    """The containers of this state folder: those it knows, and those whose processes are its own all the same."""
    groups = [*host.cgroup.glob(f"{GROUP}/*/"), *host.cgroup.glob(f"*/{GROUP}/*/")]
    lost = {group.name for group in groups if any(is_ours(host, process) for process in members(host, group))}
    return lost | {path.name for path in listing(host.state / "containers")}


def cgroups(host: Host) -> list[Path]:
    """Every cgroup of our containers, in every hierarchy, inner ones first; the top one if nothing else is in it."""
    found: list[Path] = []
    for top in (host.cgroup / GROUP, *host.cgroup.glob(f"*/{GROUP}")):
        groups = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)][:-1]
        ours = [
            group for group in groups if group.relative_to(top).parts[0] in host.containers or is_stale(host, group)
        ]
        found += [*ours, top] if top.exists() and len(ours) == len(groups) else ours
    return found


def is_stale(host: Host, group: Path) -> bool:
    """Has somebody's death left this cgroup empty? A young one may be another engine's, about to be filled."""
    with contextlib.suppress(OSError):
        return not members(host, group) and time.time() - group.stat().st_mtime > NEWBORN
    return False


def members(host: Host, group: Path) -> list[Path]:
    """The processes in a cgroup and in those below it, as folders of /proc."""
    return [host.proc / pid for procs in group.rglob("cgroup.procs") for pid in os.fsdecode(read(procs)).split()]


def tables() -> list[str]:
    """Our nft tables as `nft` names them, for example `inet minicontainer`. None where there is no nft or no root."""
    if shutil.which("nft") is None:
        return []
    listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return [line.removeprefix("table ") for line in listing.splitlines() if line.split()[-1:] == [GROUP]]


def read(path: Path) -> bytes:
    """A file's content, or nothing if it, or the process that it describes, is gone or not ours to read."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def lines(path: Path) -> list[str]:
    """The lines of a file, as read() reads it."""
    return os.fsdecode(read(path)).splitlines()


def listing(folder: Path) -> list[Path]:
    """What is in a folder, or nothing if it is gone or not ours to read."""
    with contextlib.suppress(OSError):
        return list(folder.iterdir())
    return []


def arguments(process: Path) -> list[str]:
    """The command line of a process."""
    return [os.fsdecode(word) for word in read(process / "cmdline").split(b"\0")[:-1]]


def environment(process: Path) -> dict[str, str]:
    """The environment that a process was started with."""
    pairs = (os.fsdecode(entry).partition("=") for entry in read(process / "environ").split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def state_of(process: Path) -> str:
    """The state folder that a process of the engine works on, by the clearest sign of it, else the default one."""
    for line in lines(process / "mountinfo"):
        upper = line.rpartition("upperdir=")[2].partition(",")[0]
        if line.split(" ")[4] == "/" and upper.startswith("/") and "/containers/" in upper:
            return os.path.realpath(upper.rpartition("/containers/")[0])  # a container's root names its bundle
    for link in (process / "cwd", *listing(process / "fd")):
        with contextlib.suppress(OSError):
            if "/containers/" in (target := os.readlink(link)):  # a monitor holds files of the bundle open
                return target.partition("/containers/")[0]
    if read(process / "comm") == b"mc-monitor\n":  # one of `exec` has no files, but the process it started has signs
        for child in lines(process / "task" / process.name / "children"):
            return state_of(process.with_name(child.split()[0]))
    words = arguments(process)
    for number, word in enumerate(words):
        if word == "--root" or word.startswith("--root="):
            return os.path.realpath(word.partition("=")[2] or "".join(words[number + 1 : number + 2]))
    return os.path.realpath(environment(process).get("MINICONTAINER_ROOT") or DEFAULT_STATE)


def is_engine(process: Path, words: list[str]) -> bool:
    """Is it `minicontainer` itself: a monitor, a launcher, its command, or one of its modules?"""
    if read(process / "comm").strip() in (b"mc-monitor", b"mc-launcher"):
        return True
    if not words or not os.path.basename(words[0]).startswith("python"):
        return False
    script = next((number for number, word in enumerate(words[1:], 1) if not word.startswith("-") or word == "-m"), 0)
    if words[script] == "-m":
        return words[script + 1 : script + 2] != [] and words[script + 1].split(".")[0] == GROUP
    return script > 0 and os.path.basename(words[script]) == GROUP


def is_ours(host: Host, process: Path) -> bool:
    """Does this process (a folder of /proc) belong to the lab, and to this state folder? See the top of the file."""
    words = arguments(process)
    if environment(process).get("JUPYTER_CONFIG_DIR", "").startswith(f"{host.checkout}/.cache/"):
        return True
    if words and os.path.basename(words[0]).startswith("qemu-system"):
        return any(f"{host.state}/" in word for word in words)
    grouped = any(f"{line}/".partition(":/")[2].startswith(f"{GROUP}/") for line in lines(process / "cgroup"))
    if not grouped and not is_engine(process, words):
        return False
    if (owner := state_of(process)) != str(host.state):
        host.others.add(owner)
    return owner == str(host.state)


def lineage(host: Host) -> set[str]:
    """This process and its ancestors: whoever called us is not to be ended."""
    found: set[str] = set()
    pid = str(os.getpid())
    while pid not in found:
        found.add(pid)
        pid = (os.fsdecode(read(host.proc / pid / "stat")).rpartition(")")[2].split() or ["", pid])[1]
    return found


def processes(host: Host) -> Iterator[tuple[int, str]]:
    """Every process of ours: its number and the beginning of its command line."""
    spared = lineage(host)
    for process in host.proc.iterdir():
        ended = read(process / "stat").rpartition(b")")[2].split()[:1] in ([], [b"Z"])
        if process.name.isdigit() and not ended and process.name not in spared and is_ours(host, process):
            yield int(process.name), " ".join([*lines(process / "comm"), *arguments(process)])[:70]


def files(host: Host) -> list[Path]:
    """What the engine made in the state folder, and the folder itself if nothing else is in it."""
    if not host.state.is_dir():
        return []
    entries = listing(host.state)
    ours = [path for path in entries if path.name in STATE_NAMES or path.suffix in (".lock", ".tmp")]
    keep = host.state.is_mount() or len(ours) < len(entries)  # a disk of its own, or others' things in it
    return ours if keep else [*ours, host.state]


def end_processes(host: Host) -> None:
    """End every process of ours: SIGTERM for those that can tidy up, SIGKILL for all that is still there then."""
    host.containers = containers(host)
    for group in cgroups(host):
        for name, thawed in (("cgroup.freeze", "0"), ("freezer.state", "THAWED")):  # what is frozen can't end
            with contextlib.suppress(OSError):
                if (group / name).exists():
                    (group / name).write_text(thawed)
    for number, patience in ((signal.SIGTERM, PATIENCE), *[(signal.SIGKILL, 1.0)] * 3):  # what forks, more than once
        for pid, _ in list(processes(host)):
            send(host, pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(processes(host)):
            time.sleep(0.05)


def send(host: Host, pid: int, number: int) -> None:
    """Send a signal to a process, if it still is one of ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError), open(os.pidfd_open(pid)) as process:
        if is_ours(host, host.proc / str(pid)):
            signal.pidfd_send_signal(process.fileno(), number)


def take_down(host: Host) -> None:
    """Undo what the kernel holds for us: mounts (lazily: also those in use), cgroups, the bridge, firewall tables."""
    commands = [["umount", "--lazy", "--", point] for point in mounts_below(host)]
    commands += [["ip", "link", "delete", BRIDGE]] if (host.net / BRIDGE).exists() else []
    commands += [["nft", "delete", "table", *table.split()] for table in tables()]
    for command in commands:
        subprocess.run(command, check=False)
    deadline = time.monotonic() + PATIENCE
    while (groups := cgroups(host)) and time.monotonic() < deadline:
        for group in groups:
            with contextlib.suppress(OSError):  # busy for some milliseconds more than the process in it lived
                group.rmdir()


def remove_files(host: Host) -> None:
    """Remove the state folder and the checkout's caches; never while something is mounted below the state folder."""
    paths = [*([] if mounts_below(host) else files(host)), *host.caches]
    # Not by shutil.rmtree, whose way into a folder made very deep on purpose ends with Python's stack.
    subprocess.run(["rm", "-rf", "--one-file-system", "--", *paths], check=False)


def report(host: Host) -> bool:
    """Look again at each kind of thing and print a line about it. True if nothing of ours is left."""
    left: dict[str, list[str]] = {
        "processes": [f"{pid} ({words})" for pid, words in processes(host)],
        "mounts": mounts_below(host),
        "cgroups": [str(group) for group in cgroups(host)],
        "interfaces": [BRIDGE] if (host.net / BRIDGE).exists() else [],
        "nft tables": tables(),
        "state folder": [str(path) for path in files(host)],
        "checkout": [str(path) for path in host.caches if path.exists()],
    }
    for kind, found in left.items():
        print(f"  {kind:13} {'none left' if not found else 'LEFT: ' + ', '.join(found[:5])}")
    for other in sorted(host.others):
        print(f"  not ours      processes of {other} run: MINICONTAINER_ROOT={other} ./lab clean ends them")
    if host.state.is_dir() and not files(host):
        print(f"  kept          {host.state} itself: it is a mount, or holds what the engine didn't make")
    return not any(left.values())


def main(words: list[str]) -> int:
    """Clean, report, and say by the exit code whether something is left."""
    parser = argparse.ArgumentParser(prog="lab clean", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkout", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="remove .venv too")
    options = parser.parse_args(words)
    state, checkout = chosen_state(), options.checkout.resolve()
    caches = [checkout / name for name in ((".cache", ".venv") if options.all else (".cache",))]
    host = Host(state, checkout, caches)
    print(f"cleaning: state folder {host.state}, checkout {host.checkout}", flush=True)
    end_processes(host)
    take_down(host)
    remove_files(host)
    host.others.clear()
    return 0 if report(host) else 1


def chosen_state() -> Path:
    """The state folder, as the engine chooses it: MINICONTAINER_ROOT, else root's, else the user's own (XDG)."""
    users = os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "minicontainer")
    default = DEFAULT_STATE if os.geteuid() == 0 else users
    return Path(os.environ.get("MINICONTAINER_ROOT") or default).resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
