"""Base images: the same input gives the same digest; what is missing is said; who is interrupted leaves nothing."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from layer_files import archive, folder, listing, member, symlink

from minicontainer.errors import HostError, InvalidArgument, MissingTool
from minicontainer.images import ImageStore, bootstrap
from minicontainer.images.bootstrap import bootstrap as make
from minicontainer.images.bootstrap import is_static
from minicontainer.paths import Paths

BUSYBOX = "/bin/busybox"
EPOCH = 1_700_000_000


def quiet(_: str) -> None:
    """Progress that nobody wants to see."""


@pytest.fixture
def store(tmp_path):
    return ImageStore(Paths(state=str(tmp_path / "state")))


# ── busybox ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def busybox():
    if not os.path.exists(BUSYBOX) or not is_static(BUSYBOX):
        pytest.skip("busybox-static is not installed (./lab test installs it)")
    return BUSYBOX


def test_busybox_is_a_system(store, busybox):
    said = []
    image = make(store, "busybox", progress=said.append)
    assert image == store.resolve("busybox")
    assert image.config["config"]["Cmd"] == ["sh"]
    assert any(each.startswith("PATH=") for each in image.config["config"]["Env"])
    assert image.config["history"][0]["created_by"] == "minicontainer image bootstrap busybox"
    assert said == [f"making a root file system of {BUSYBOX}", "unpacking the layer"]
    (root,) = map(Path, store.lowers(image))
    modes = {
        "tmp": 0o1777,
        "root": 0o700,
        "etc/passwd": 0o644,
        "etc/shadow": 0o640,
        "bin/busybox": 0o755,
        "usr/bin": 0o755,
    }
    assert {name: (root / name).stat().st_mode & 0o7777 for name in modes} == modes
    assert (root / "bin/sh").readlink() == Path("busybox")
    assert (root / "usr/bin/env").resolve() == (root / "bin/busybox")
    assert "root:x:0:0:root:/root:/bin/sh\n" in (root / "etc/passwd").read_text()
    assert (root / "bin/busybox").read_bytes() == Path(BUSYBOX).read_bytes()
    assert image.size > (root / "bin/busybox").stat().st_size
    with tarfile.open(store.blob_path(image.layers[0].digest)) as blob:
        assert {(info.uid, info.gid) for info in blob} == {(0, 0)}


def test_busybox_is_the_same_on_any_day_for_anybody(store, busybox, tmp_path):
    first = make(store, "busybox", progress=quiet)
    again = ImageStore(Paths(state=str(tmp_path / "again")))
    before = os.umask(0o077)
    try:
        second = make(again, "busybox", progress=quiet)
    finally:
        os.umask(before)
    assert second == first
    assert again.entries() == store.entries()


def test_the_epoch_can_be_given(store, busybox, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    image = make(store, "busybox", progress=quiet)
    assert image.created == "1970-01-02T00:00:00Z"
    assert {path.lstat().st_mtime for path in Path(store.lowers(image)[0]).rglob("*")} == {86400}


def test_a_busybox_that_isnt_there_or_needs_libraries(store, tmp_path):
    for path, problem in ((str(tmp_path / "none"), "isn't there"), (os.path.realpath("/bin/sh"), "without libraries")):
        with pytest.raises(MissingTool, match=problem) as caught:
            bootstrap.bootstrap_busybox(store, quiet, path)
        assert caught.value.hint == "apt-get install busybox-static"
    assert store.list() == []


def test_a_busybox_that_doesnt_run(store, tmp_path):
    (broken := tmp_path / "busybox").write_bytes(elf("<", 64, 1))
    broken.chmod(0o755)
    with pytest.raises(HostError, match="--list failed"):
        bootstrap.bootstrap_busybox(store, quiet, str(broken))
    assert os.listdir(store.paths.layers) == []


def elf(order: str, bits: int, *segments: int) -> bytes:
    """An ELF file with these kinds of segments (elf(5))."""
    start = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    size = 56 if bits == 64 else 32
    layout = order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH")
    head = struct.calcsize(layout) + 16
    header = struct.pack(layout, 2, 62, 1, 0, head, 0, 0, head, size, len(segments), 0, 0, 0)
    return start + header + b"".join(struct.pack(order + "I", kind).ljust(size, b"\0") for kind in segments)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_static_is_what_names_no_loader(tmp_path, order, bits):
    program = tmp_path / "program"
    for segments, static in (((1, 2, 1), True), ((6, 3, 1), False), ((), False)):
        program.write_bytes(elf(order, bits, *segments).ljust(64, b"\0"))
        assert is_static(str(program)) is static


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF"])
def test_what_is_no_program_isnt_static(tmp_path, content):
    (tmp_path / "program").write_bytes(content)
    assert not is_static(str(tmp_path / "program"))


# ── debian, with programs that play mmdebstrap and apt ────────────────────────────────────────────────────────────

ROOT = archive(
    folder("./dev"), member("./dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3), folder("./"),
    symlink("./bin", "usr/bin"), folder("./etc", mtime=EPOCH + 99), member("./etc/resolv.conf", b"", uid=3),
    folder("./usr"), folder("./usr/bin"), member("./usr/bin/bash", b"bash", mode=0o755), folder("./var"),
    folder("./var/log"), member("./var/log/dpkg.log", b"today"), folder("./var/cache"), folder("./var/cache/ldconfig"),
    member("./var/cache/ldconfig/aux-cache", b"today"), folder("./var/lib"), folder("./var/lib/apt"),
    folder("./var/lib/apt/lists"), folder("./var/lib/apt/lists/partial"),
)  # fmt: skip


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with a mmdebstrap, an apt-helper and a keyring that do what the test wants."""
    (bin_ := tmp_path / "bin").mkdir()
    (tmp_path / "root.tar").write_bytes(ROOT)
    (tmp_path / "keyring").touch()
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(bootstrap, "KEYRING", str(tmp_path / "keyring"))
    monkeypatch.setattr(bootstrap, "APT_HELPER", str(bin_ / "apt-helper"))

    def program(name: str, script: str) -> None:
        (bin_ / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (bin_ / name).chmod(0o755)

    program(
        "mmdebstrap",
        'echo "I: extracting archives..." >&2; echo "I: done" >&2; echo "W: x" >&2; '
        'env >environment; echo "$@" >arguments; cat root.tar',
    )
    program(
        "apt-helper", 'for path; do :; done; printf "Hash: SHA256\\nDate: Tue, 14 Nov 2023 22:13:20 UTC\\n" >"$path"'
    )
    return program


def test_debian_is_what_mmdebstrap_makes_without_what_differs(store, host, tmp_path):
    said = []
    image = make(store, "debian", "sid", said.append)
    assert sorted(each.reference for each in store.list()) == ["debian:latest", "debian:sid"]
    assert store.resolve("debian").id == image.id
    assert (image.created, image.config["config"]["Cmd"]) == ("2023-11-14T22:13:20Z", ["bash"])
    (root,) = map(Path, store.lowers(image))
    assert listing(root) == {
        "bin": "-> usr/bin",
        "dev": "folder",
        "etc": "folder",
        "etc/resolv.conf": "file b''",
        "usr": "folder",
        "usr/bin": "folder",
        "usr/bin/bash": "file b'bash'",
        "var": "folder",
        "var/cache": "folder",
        "var/cache/ldconfig": "folder",
        "var/lib": "folder",
        "var/lib/apt": "folder",
        "var/lib/apt/lists": "folder",
        "var/log": "folder",
    }
    assert (root / "etc").stat().st_mtime == EPOCH
    assert said == ["extracting archives...", "packing the layer", "unpacking the layer"]
    arguments = (tmp_path / "arguments").read_text()
    assert "--variant=minbase" in arguments
    assert "--mode=unshare" in arguments
    assert arguments.endswith(" sid -\n")
    environment = (tmp_path / "environment").read_text().splitlines()
    assert f"SOURCE_DATE_EPOCH={EPOCH}" in environment
    if os.geteuid() == 0:
        assert any(line.startswith(f"TMPDIR={store.paths.layers}/.tmp-") for line in environment)
    assert [name for name in os.listdir(store.paths.layers) if name.startswith(".")] == []


def test_debian_is_the_same_twice(store, host, tmp_path):
    first = make(store, "debian", "sid", quiet)
    assert make(ImageStore(Paths(state=str(tmp_path / "again"))), "debian", "sid", quiet) == first


@pytest.mark.parametrize(
    ("release", "suite"),
    [
        ("ID=debian\nVERSION_CODENAME=trixie\n", "trixie"),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", "bookworm"),
        ("ID=debian\n\n", "bookworm"),
    ],
)
def test_without_a_suite_it_is_the_hosts(tmp_path, monkeypatch, release, suite):
    (tmp_path / "os-release").write_text(release)
    monkeypatch.setattr(bootstrap, "OS_RELEASE", str(tmp_path / "os-release"))
    assert bootstrap._host_suite() == suite


@pytest.mark.parametrize("suite", ["", "-x", "Bookworm", "a b", "../x", "a;b", "süd"])
def test_a_suite_that_cant_be(store, host, suite):
    if suite:
        with pytest.raises(InvalidArgument, match="not the name of a Debian suite"):
            make(store, "debian", suite, quiet)
    else:
        assert make(store, "debian", suite, quiet)


def test_flavours(store):
    with pytest.raises(InvalidArgument, match="'alpine'") as caught:
        make(store, "alpine", progress=quiet)
    assert caught.value.hint == "there are busybox and debian"
    with pytest.raises(InvalidArgument, match="no suites"):
        make(store, "busybox", "sid", quiet)


def test_what_isnt_installed_is_said(store, host, monkeypatch, tmp_path):
    (tmp_path / "bin/apt-helper").unlink()
    with pytest.raises(MissingTool, match="apt isn't installed"):
        make(store, "debian", "sid", quiet)
    (tmp_path / "keyring").unlink()
    with pytest.raises(MissingTool, match="keys") as caught:
        make(store, "debian", "sid", quiet)
    assert caught.value.hint == "apt-get install debian-archive-keyring"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="mmdebstrap") as caught:
        make(store, "debian", "sid", quiet)
    assert caught.value.hint == "apt-get install mmdebstrap"


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (
            "echo 'E: Failed to fetch http://x 404  Not Found' >&2; exit 100",
            InvalidArgument,
            "Debian has no suite 'sid'",
        ),
        ("echo 'E: Could not resolve host' >&2; exit 100", HostError, "can't reach Debian's mirror.*Could not resolve"),
        ("exit 100", HostError, "can't reach Debian's mirror"),
        ("for path; do :; done; echo '<html>' >$path", HostError, "isn't a release of Debian"),
        ("for path; do :; done; echo 'Date: soon' >$path", HostError, "isn't a release of Debian"),
    ],
)
def test_a_mirror_that_doesnt_answer_well(store, host, script, error, words):
    host("apt-helper", script)
    with pytest.raises(error, match=words):
        make(store, "debian", "sid", quiet)
    assert os.listdir(store.paths.layers) == []


def test_a_mmdebstrap_that_fails_is_quoted(store, host):
    host("mmdebstrap", "cat root.tar; echo 'W: hm' >&2; echo 'E: no space' >&2; echo 'E: failed to run' >&2; exit 25")
    with pytest.raises(HostError, match="mmdebstrap failed: no space"):
        make(store, "debian", "sid", quiet)
    assert (store.list(), os.listdir(store.paths.layers)) == ([], [])


def test_interrupted_it_stops_mmdebstrap_and_leaves_nothing(store, host, tmp_path):
    host(
        "mmdebstrap",
        "trap 'touch stopped; exit 1' TERM; echo 'I: half of it...' >&2; touch $TMPDIR/half; sleep 60 & wait",
    )

    def interrupt(line: str) -> None:
        if line == "half of it...":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(store, "debian", "sid", interrupt)
    assert (tmp_path / "stopped").exists()
    assert (store.list(), os.listdir(store.paths.layers)) == ([], [])


KILLED = """
import sys
from minicontainer.images import ImageStore, bootstrap
from minicontainer.paths import Paths
bootstrap.KEYRING = bootstrap.APT_HELPER = "/dev/null"
bootstrap.bootstrap_debian(ImageStore(Paths(state=sys.argv[1])), "sid", lambda line: print(line, flush=True))
"""


def test_killed_what_it_left_goes_once_mmdebstrap_has_ended(store, host, tmp_path, monkeypatch):
    host("mmdebstrap", "echo $$ >pid; echo 'I: half of it...' >&2; exec sleep 60")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    process = subprocess.Popen([sys.executable, "-c", KILLED, store.paths.state], stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert said == "half of it...\n"
    (left,) = os.listdir(store.paths.layers)
    host("mmdebstrap", "cat root.tar")
    make(store, "debian", "sid", quiet)
    assert left in os.listdir(store.paths.layers)  # mmdebstrap is still at work there
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    while left in os.listdir(store.paths.layers):
        make(store, "debian", "sid", quiet)
    assert len(store.list()) == 2
