"""Base images from what the distribution has: no registry, no account.

Layer: images (imports assembly, store, layers, and the bottom row). Off the hot path.

    busybox    the host's static busybox, a link for each of its applets, and the few files that a system has
    debian     mmdebstrap's minimal variant of a suite, without manuals and translations, as Docker's "slim" ones are

Same input, same digest. The input is the busybox file (content and time, both from its package), or the suite's point
release and its packages. The time of that file, or of that release, is the epoch (unless SOURCE_DATE_EPOCH is set):
nothing in the image is younger. An interrupted run leaves at most a scratch folder, which the next one removes.
"""

from __future__ import annotations

import email.utils
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable

from ..errors import HostError, InvalidArgument, MissingTool
from ..layers import Layer, Scratch, pack, repack
from .assembly import put_image
from .image import Image, architecture
from .store import ImageStore

Progress = Callable[[str], None]

OS_RELEASE = "/etc/os-release"
APT_HELPER = "/usr/lib/apt/apt-helper"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MERGED_USR = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
"""Merges /usr by hand where the suite allows it; otherwise a package does, and brings 46 MB of Perl."""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_FOLDERS = "bin dev etc home proc root run sys tmp usr usr/bin usr/sbin var var/spool var/spool/mail var/tmp var/www"
_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "etc/shadow": 0o640}
_FILES = {
    "etc/passwd": """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
""",
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/shadow": "root:*::0:::::\nnobody:*::0:::::\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hostname": "",
    "etc/hosts": "",
    "etc/resolv.conf": "",
}
_EMPTY = (
    b"dev/", b"run/", b"tmp/", b"var/log/", b"var/cache/apt/", b"var/cache/debconf/", b"var/cache/ldconfig/",
    b"var/lib/apt/lists/",
)  # fmt: skip
"""Folders that have nothing in them in an image of Debian: it would be of the host, or of the day when it was made."""
_SLIM = (
    "exclude=/usr/share/doc/*", "include=/usr/share/doc/*/copyright", "exclude=/usr/share/man/*",
    "exclude=/usr/share/info/*", "exclude=/usr/share/locale/*", "exclude=/usr/share/lintian/*",
)  # fmt: skip


def bootstrap(store: ImageStore, flavour: str, suite: str | None = None, progress: Progress = print) -> Image:
    """Make the base image of this flavour. Raises InvalidArgument for one that isn't known."""
    if flavour == "debian":
        return bootstrap_debian(store, suite, progress)
    if flavour != "busybox":
        raise InvalidArgument(f"no base image is called {flavour!r}", hint="there are busybox and debian")
    if suite:
        raise InvalidArgument("busybox has no suites", hint="leave --suite out, or bootstrap debian")
    return bootstrap_busybox(store, progress)


def bootstrap_busybox(store: ImageStore, progress: Progress = print, busybox: str = "/bin/busybox") -> Image:
    """Make busybox:latest of the host's static busybox. Raises MissingTool where there is none, or it isn't static."""
    if not os.path.exists(busybox) or not is_static(busybox):
        problem = "isn't a program that runs without libraries" if os.path.exists(busybox) else "isn't there"
        raise MissingTool(f"{busybox} {problem}", hint="apt-get install busybox-static")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or os.stat(busybox).st_mtime)
    progress(f"making a root file system of {busybox}")
    with _scratch(store) as scratch:
        tree, blob = os.path.join(scratch.path, "tree"), os.path.join(scratch.path, "layer")
        _make_tree(tree, busybox)
        with open(blob, "wb") as out:
            layer = pack(tree, out, epoch, owner=(0, 0))
        return _finish(store, layer, blob, epoch, "sh", ["busybox:latest"], progress)


def bootstrap_debian(store: ImageStore, suite: str | None = None, progress: Progress = print) -> Image:
    """Make debian:<suite>, which is debian:latest too, of Debian's packages; without a suite of the host's.

    20 to 60 s, some 50 MB from the mirror. Works as a normal user too, in a user namespace, and gives the same image.
    Raises InvalidArgument for a suite that Debian hasn't got, MissingTool, HostError.
    """
    suite = suite or _host_suite()
    if not suite.isascii() or not suite.islower() or not suite.replace("-", "").isalnum() or suite.startswith("-"):
        raise InvalidArgument(f"not the name of a Debian suite: {suite!r}", hint="for example bookworm, trixie or sid")
    if not shutil.which("mmdebstrap"):
        raise MissingTool("mmdebstrap isn't installed", hint="apt-get install mmdebstrap")
    if not os.path.exists(KEYRING):
        raise MissingTool("the keys that Debian signs with are missing", hint="apt-get install debian-archive-keyring")
    with _scratch(store) as scratch:
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _release_date(suite, scratch.path))
        archive, blob = os.path.join(scratch.path, "root.tar"), os.path.join(scratch.path, "layer")
        _run_mmdebstrap(suite, archive, epoch, scratch, progress)
        progress("packing the layer")
        with open(archive, "rb") as source, open(blob, "wb") as out:
            layer = repack(source, out, epoch, lambda name: not name.startswith(_EMPTY))
        return _finish(store, layer, blob, epoch, "bash", [f"debian:{suite}", "debian:latest"], progress)


def is_static(path: str) -> bool:
    """Whether the ELF program at `path` runs without a loader: it has no PT_INTERP segment (elf(5))."""
    with open(path, "rb") as file:
        header = file.read(64)
        if header[:4] != b"\x7fELF" or len(header) < 64:
            return False
        wide, order = header[4] == 2, "<" if header[5] == 1 else ">"
        offset = struct.unpack_from(order + ("Q" if wide else "I"), header, 32 if wide else 28)[0]
        size, count = struct.unpack_from(order + "HH", header, 54 if wide else 42)
        file.seek(offset)
        segments = [file.read(size)[:4] for _ in range(count)]
    return bool(segments) and struct.pack(order + "I", 3) not in segments


def _scratch(store: ImageStore) -> Scratch:
    """A folder to work in, on the store's own file system."""
    store.lock()  # makes the state folder, or says why it can't
    return Scratch(store.paths.layers)


def _make_tree(tree: str, busybox: str) -> None:
    for name in ("", *_FOLDERS.split()):
        os.mkdir(os.path.join(tree, name))
        os.chmod(os.path.join(tree, name), _MODES.get(name, 0o755))  # whatever the umask
    for name, text in _FILES.items():
        with open(os.path.join(tree, name), "w") as file:
            file.write(text)
        os.chmod(file.name, _MODES.get(name, 0o644))
    shutil.copyfile(busybox, os.path.join(tree, "bin/busybox"))
    os.chmod(os.path.join(tree, "bin/busybox"), 0o755)
    try:
        applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostError(f"{busybox} --list failed: {error}", hint="apt-get install busybox-static") from None
    for applet in applets:
        if applet != "busybox":
            os.symlink("busybox", os.path.join(tree, "bin", applet))
    os.symlink("../../bin/busybox", os.path.join(tree, "usr/bin/env"))  # where scripts look for it


def _host_suite() -> str:
    """The suite that this host runs, if it is Debian."""
    with open(OS_RELEASE) as file:
        values = dict(line.strip().split("=", 1) for line in file if "=" in line)
    return values.get("VERSION_CODENAME", "bookworm") if values.get("ID") == "debian" else "bookworm"


def _release_date(suite: str, folder: str) -> int:
    """When the suite's point release was made, in seconds since 1970: the same until the next one."""
    path, url = os.path.join(folder, "InRelease"), f"{MIRROR}/dists/{suite}/InRelease"
    command = [APT_HELPER, "-o", "APT::Sandbox::User=root", "download-file", url, path]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            with open(path, encoding="utf-8", errors="replace") as file:
                date = next(line for line in file if line.startswith("Date:"))
            return int(email.utils.parsedate_to_datetime(date.removeprefix("Date:")).timestamp())
    except FileNotFoundError:
        raise MissingTool("apt isn't installed", hint="Debian's images are made on Debian or Ubuntu") from None
    except (StopIteration, ValueError):
        raise HostError(f"{url} isn't a release of Debian", hint="is there a login page between?") from None
    if "404" in result.stdout + result.stderr:
        raise InvalidArgument(f"Debian has no suite {suite!r}", hint="for example bookworm, trixie or sid")
    problem = _reason(result.stderr.splitlines())
    raise HostError(f"can't reach Debian's mirror at {MIRROR}: {problem}", hint="is this machine connected?")


def _reason(lines: list[str]) -> str:
    """What apt and its like say went wrong: the first complaint is the cause, the last ones only that it failed."""
    return next((line.removeprefix("E: ").strip() for line in lines if line.startswith("E: ")), "no reason given")


def _run_mmdebstrap(suite: str, archive: str, epoch: int, scratch: Scratch, progress: Progress) -> None:
    """Let mmdebstrap write a tar of the suite to `archive`. Its own folder is in the scratch folder, if root's.

    Mode "unshare" has mounts of its own for root too, which are gone with it, however it ends (mmdebstrap(1), MODES).
    """
    root = os.geteuid() == 0
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
    environment |= {"TMPDIR": scratch.path} if root else {}  # the root of a user's namespace can't enter our folders
    empty = 'for name in hostname hosts resolv.conf; do : >"$1/etc/$name"; done'
    command = [
        "mmdebstrap", "--variant=minbase", "--mode=unshare", "--format=tar", f"--keyring={KEYRING}",
        f"--hook-dir={MERGED_USR}", *(f"--dpkgopt=path-{rule}" for rule in _SLIM), f"--customize-hook={empty}",
        suite, "-",
    ]  # fmt: skip
    lines: list[str] = []
    # It inherits the scratch folder's lock: should we be killed, nobody takes the folder from under it.
    with open(archive, "wb") as out, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, env=environment, text=True,
        errors="replace", pass_fds=[scratch.fd], umask=0o022,
    ) as process:  # fmt: skip
        try:
            for line in process.stderr or ():
                lines.append(line)
                if line.startswith("I: ") and line.endswith("...\n") and "signal" not in line:
                    progress(line.strip().removeprefix("I: "))
        except BaseException:
            process.terminate()
            if process.stderr:
                process.stderr.read()  # until all its children are gone too: they are removing its folder
            raise
    if process.returncode:
        hint = "" if root else "a normal user needs user namespaces, and lines in /etc/subuid and /etc/subgid"
        raise HostError(f"mmdebstrap failed: {_reason(lines)}", hint)


def _finish(
    store: ImageStore, layer: Layer, blob: str, epoch: int, shell: str, names: list[str], progress: Progress
) -> Image:
    """Name the image, and unpack it at once, so that its first start is as fast as the next ones."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    made_by = f"minicontainer image bootstrap {names[0].partition(':')[0]}"
    document = {
        "architecture": architecture(),
        "os": "linux",
        "created": created,
        "config": {"Cmd": [shell], "Env": [PATH]},
        "history": [{"created": created, "created_by": made_by}],
    }
    image = put_image(store, [(layer, blob)], document, names)
    progress("unpacking the layer")
    store.lowers(image)
    return store.resolve(names[0])
