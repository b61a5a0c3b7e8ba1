"""Unpacking: what a layer means, and what a hostile or damaged one can't do."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_files import Blob, archive, blob, folder, hardlink, layer, listing, member, sha256, symlink

from minicontainer.errors import DigestMismatch, HostError, IntegrityError
from minicontainer.layers import Scratch, tree


def opaque(path: Path) -> bool:
    return any(name.endswith("overlay.opaque") and os.getxattr(path, name) == b"y" for name in os.listxattr(path))


@pytest.fixture
def world(tmp_path):
    """A folder with something to steal and to overwrite, and a place beside it to unpack into."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("untouched")
    (tmp_path / "layers").mkdir()
    return tmp_path


def is_untouched(world: Path) -> bool:
    return listing(world / "host") == {"secret": "file b'untouched'"} and (world / "host").stat().st_nlink == 2


# ── what a layer means ────────────────────────────────────────────────────────────────────────────────────────────


def test_files_folders_links_and_times(tmp_path):
    made = layer(
        tmp_path,
        folder("etc", mtime=100, mode=0o750),
        member("etc/a", b"hello", mode=0o4640, mtime=7.5),
        symlink("etc/b", "/x/y"),
        hardlink("etc/c", "etc/a"),
        member("etc/pipe", kind=tarfile.FIFOTYPE, mode=0o622),
        folder("usr", mtime=9),
        member("./usr/lib/deep/file", b"x", mtime=3),
        member("/rooted", b"r"),
    )
    target = made.unpack(tmp_path / "target")
    assert listing(target) == {
        "etc": "folder",
        "etc/a": "file b'hello'",
        "etc/b": "-> /x/y",
        "etc/c": "file b'hello'",
        "etc/pipe": "other",
        "usr": "folder",
        "usr/lib": "folder",
        "usr/lib/deep": "folder",
        "usr/lib/deep/file": "file b'x'",
        "rooted": "file b'r'",
    }
    assert (target / "etc/a").samefile(target / "etc/c")
    assert [(target / name).stat().st_mtime for name in ("etc", "etc/a", "usr")] == [100, 7.5, 9]
    assert [oct((target / name).stat().st_mode) for name in ("etc", "etc/a", "usr/lib", "etc/pipe", ".")] == [
        "0o40750", "0o104640", "0o40755", "0o10622", "0o40755",
    ]  # fmt: skip
    assert (tmp_path / "target.size").read_text() == "7\n"


def test_the_umask_of_the_person_is_no_matter(tmp_path):
    made = layer(tmp_path, member("a/b", b"", mode=0o666))
    before = os.umask(0o077)
    try:
        target = made.unpack(tmp_path / "target")
    finally:
        os.umask(before)
    assert [oct((target / name).stat().st_mode & 0o777) for name in (".", "a", "a/b")] == ["0o755", "0o755", "0o666"]


def test_the_mode_of_the_top_is_the_layers(tmp_path):
    target = layer(tmp_path, member("a", b""), folder("./", mode=0o711, mtime=50)).unpack(tmp_path / "target")
    assert (target.stat().st_mode & 0o7777, target.stat().st_mtime) == (0o711, 50)


def test_marks_become_overlays(tmp_path):
    made = layer(
        tmp_path,
        folder("dir"),
        member("dir/.wh.gone", b""),
        member(".wh.top", b""),
        folder("fresh"),
        member("fresh/.wh..wh..opq", b""),
    )
    target = made.unpack(tmp_path / "target")
    assert listing(target) == {"dir": "folder", "dir/gone": "whiteout", "top": "whiteout", "fresh": "folder"}
    assert opaque(target / "fresh")
    assert not opaque(target / "dir")


@pytest.mark.parametrize("order", [1, -1])
def test_a_mark_is_for_the_layers_below_not_for_its_own(tmp_path, order):
    files = [member("a", b"new"), member(".wh.a", b"")][::order]
    folders = [[folder("d"), member("d/x", b"")], [member(".wh.d", b"")]][::order]
    target = layer(tmp_path, *files, *folders[0], *folders[1]).unpack(tmp_path / "target")
    assert listing(target) == {"a": "file b'new'", "d": "folder", "d/x": "file b''"}
    assert opaque(target / "d")


def test_below_a_mark_a_folder_without_an_entry_is_fresh_too(tmp_path):
    target = layer(tmp_path, member(".wh.d", b""), member("d/x", b"")).unpack(tmp_path / "target")
    assert listing(target) == {"d": "folder", "d/x": "file b''"}
    assert opaque(target / "d")


def test_aufs_bookkeeping_is_passed_over(tmp_path):
    made = layer(
        tmp_path,
        member(".wh..wh.aufs", b""),
        folder(".wh..wh.plnk"),
        member(".wh..wh.plnk/1.2", b"x"),
        member("a", b""),
    )
    assert listing(made.unpack(tmp_path / "target")) == {"a": "file b''"}


def test_a_later_entry_replaces_an_earlier_one(tmp_path):
    made = layer(
        tmp_path,
        member("a", b"1"),
        member("a", b"2"),
        folder("d"),
        member("d/x", b""),
        member("d", b"now a file"),
        symlink("s", "a"),
        folder("s"),
        member("s/y", b""),
        folder("m", mode=0o700),
        member("m/k", b""),
        folder("m", mode=0o711),
    )
    target = made.unpack(tmp_path / "target")
    assert listing(target) == {
        "a": "file b'2'", "d": "file b'now a file'", "s": "folder", "s/y": "file b''", "m": "folder", "m/k": "file b''",
    }  # fmt: skip
    assert (target / "m").stat().st_mode & 0o777 == 0o711


def test_attributes_are_kept_but_not_overlays_own(tmp_path):
    headers = {f"SCHILY.xattr.{name}": "y" for name in ("user.mine", "user.overlay.opaque", "trusted.overlay.opaque")}
    headers["SCHILY.xattr.trusted.overlay.redirect"] = "/host"
    target = layer(tmp_path, folder("d", pax_headers=headers)).unpack(tmp_path / "target")
    assert os.listxattr(target / "d") == ["user.mine"]


def test_an_uncompressed_layer_and_one_of_several_members(tmp_path):
    data = archive(member("a", os.urandom(1 << 19)), member("b", b"x"))
    blob(tmp_path, data, compress=False).unpack(tmp_path / "plain")
    parts = gzip.compress(data[:1000]) + gzip.compress(data[1000:])
    (tmp_path / "parts").write_bytes(parts)
    Blob(tmp_path / "parts", sha256(parts), sha256(data)).unpack(tmp_path / "target")
    assert listing(tmp_path / "plain") == listing(tmp_path / "target")


name = st.sampled_from(["a", "b", "c", ".wh.a", ".wh..wh..opq", "d"])
path = st.lists(name, min_size=1, max_size=3).map("/".join)
anything = st.one_of(
    st.builds(member, path, st.binary(max_size=5)),
    st.builds(folder, path),
    st.builds(symlink, path, path),
    st.builds(hardlink, path, path),
    st.builds(symlink, path, st.sampled_from(["/", "..", "../../host", "/etc"])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(anything, max_size=8))
def test_whatever_it_says_it_stays_inside_or_is_refused(world, members):
    with Scratch(str(world / "layers")) as scratch:
        made = layer(Path(scratch.path), *members)
        try:
            made.unpack(Path(scratch.path) / "target")
        except IntegrityError:
            assert os.listdir(scratch.path) == [made.path.name]
    assert is_untouched(world)


# ── what a hostile one can't do ───────────────────────────────────────────────────────────────────────────────────

HOST = "../../host"  # as seen from the unpacked layer
REFUSED = {
    "up": [member("../../host/secret", b"bad")],
    "up from below": [folder("a"), member("a/../../../host/secret", b"bad")],
    "up and nothing else": [folder("..")],
    "through a link": [symlink("a", HOST), member("a/secret", b"bad")],
    "through a rooted link": [symlink("a", "{world}/host"), member("a/secret", b"bad")],
    "through a link to a folder of its own": [folder("b"), symlink("a", "b"), member("a/x", b"")],
    "through a chain of links": [symlink("a", "b"), symlink("b", HOST), member("a/c/d", b"bad")],
    "a folder through a link": [symlink("a", HOST), folder("a/new")],
    "through a file": [member("a", b""), member("a/b", b"")],
    "hard link up": [hardlink("a", "../../host/secret"), member("a", b"bad")],
    "hard link to a rooted name": [hardlink("a", "{world}/host/secret")],
    "hard link through a link": [symlink("l", HOST), hardlink("a", "l/secret")],
    "hard link to nothing": [hardlink("a", "nothing")],
    "hard link to itself": [member("a", b""), hardlink("a", "a")],
    "hard link to a folder": [folder("d"), hardlink("a", "d")],
    "hard link over what holds its source": [folder("d"), member("d/x", b""), hardlink("d", "d/x")],
    "mark without a name": [member(".wh.", b"")],
    "mark for itself": [folder("d"), member("d/.wh..", b"")],
    "mark for what is above": [folder("d"), member("d/.wh...", b"")],
    "opaque through a link": [symlink("a", HOST), member("a/.wh..wh..opq", b"")],
    "mark through a link": [symlink("a", HOST), member("a/.wh.secret", b"")],
    "longer than a path": [member("d/" * 2000 + "x", b"")],
    "longer than a name": [member("d" * 256, b"")],
    "of an unknown kind": [member("a", b"", kind=b"Z")],
}  # fmt: skip


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED.keys())
def test_a_way_out_is_refused_and_leaves_nothing(world, members):
    for info, _ in members:
        info.linkname = info.linkname.replace("{world}", str(world))
    made = layer(world, *members)
    with pytest.raises(IntegrityError):
        made.unpack(world / "layers/target")
    assert os.listdir(world / "layers") == []
    assert is_untouched(world)


def test_a_link_that_is_replaced_is_not_followed(world):
    made = layer(
        world,
        symlink("a", HOST + "/secret"),
        member("a", b"new"),
        symlink("d", HOST),
        folder("d", mode=0o711),
        hardlink("h", "a"),
    )
    target = made.unpack(world / "layers/target")
    assert listing(target) == {"a": "file b'new'", "d": "folder", "h": "file b'new'"}
    assert is_untouched(world)


def test_a_hard_link_to_a_symbolic_link_is_that_link(world):
    target = layer(world, symlink("a", HOST + "/secret"), hardlink("b", "a")).unpack(world / "layers/target")
    assert listing(target) == {"a": f"-> {HOST}/secret", "b": f"-> {HOST}/secret"}
    assert is_untouched(world)


def test_a_mark_for_a_link_removes_nothing_behind_it(world):
    target = layer(world, symlink("a", HOST), member(".wh.a", b"")).unpack(world / "layers/target")
    assert listing(target) == {"a": f"-> {HOST}"}
    assert is_untouched(world)


def test_a_rooted_name_lands_in_the_layer(world):
    target = layer(world, member(f"{world}/host/secret", b"bad")).unpack(world / "layers/target")
    assert (target / str(world)[1:] / "host/secret").read_bytes() == b"bad"
    assert is_untouched(world)


@pytest.mark.parametrize("compress", [True, False])
def test_a_bomb_is_stopped_at_the_limit(world, compress, monkeypatch):
    made = blob(world, archive(member("zeros", bytes(3 << 20))), compress)
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(len(data)) or real(fd, data))
    with pytest.raises(IntegrityError, match="limit"):
        made.unpack(world / "layers/target", limit=1 << 20)
    assert sum(written) <= 1 << 20
    assert os.listdir(world / "layers") == []


def test_by_default_the_limit_grows_with_the_blob(world, monkeypatch):
    made = blob(world, archive(member("zeros", bytes(200_000))))
    monkeypatch.setattr("minicontainer.layers.unpacking.LEAST_LIMIT", 100_000)
    assert made.path.stat().st_size * 100 < 200_000
    with pytest.raises(IntegrityError, match="limit"):
        made.unpack(world / "layers/target")
    made.path.write_bytes(made.path.read_bytes() + gzip.compress(os.urandom(4000)))
    with pytest.raises(DigestMismatch):
        made.unpack(world / "layers/target")


def test_a_limit_counts_what_comes_after_the_archive_too(world):
    data = archive(member("a", b"")) + bytes(3 << 20)
    with pytest.raises(IntegrityError, match="limit"):
        blob(world, data).unpack(world / "layers/target", limit=1 << 20)


def test_memory_stays_flat(tmp_path):
    made = blob(tmp_path, archive(*(member(f"f{n}", bytes(1 << 20)) for n in range(60))))
    script = f"""
        from minicontainer.layers import unpack
        def peak():  # VmHWM and not ru_maxrss, which a child inherits from its parent
            return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
        with open({str(made.path)!r}, "rb") as file:
            before = peak()
            unpack(file, {str(tmp_path / "target")!r}, {made.digest!r}, {made.diff_id!r})
            print(peak() - before)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 12_000  # KiB, for 60 MiB of files


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blob_that_isnt_its_digest_is_found_before_anything_is_there(world):
    made = layer(world, member("a", b"x"))
    other = "sha256:" + "0" * 64
    for wrong in (Blob(made.path, other, made.diff_id), Blob(made.path, made.digest, other)):
        with pytest.raises(DigestMismatch):
            wrong.unpack(world / "layers/target")
        assert os.listdir(world / "layers") == []


def test_what_follows_the_archive_belongs_to_the_digest(world):
    made = layer(world, member("a", b"x"))
    made.path.write_bytes(made.path.read_bytes() + gzip.compress(b"more"))
    with pytest.raises(DigestMismatch):
        made.unpack(world / "layers/target")


@pytest.mark.parametrize("keep", [0, 1, 5, 20, 0.5, -1, -9])
def test_a_blob_that_is_cut_off_is_refused(world, keep):
    made = layer(world, member("a", os.urandom(100_000)))
    data = made.path.read_bytes()
    made.path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(IntegrityError):
        made.unpack(world / "layers/target")
    assert os.listdir(world / "layers") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_blob_is_refused(world, data):
    with Scratch(str(world / "layers")) as scratch:
        made = layer(Path(scratch.path), folder("d"), member("d/a", b"hello" * 50), symlink("l", "d"))
        bytes_ = bytearray(made.path.read_bytes())
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] ^= data.draw(st.integers(1, 255))
        made.path.write_bytes(bytes_)
        with pytest.raises(IntegrityError):
            made.unpack(Path(scratch.path) / "target")


def test_zstd_is_named(world):
    made = blob(world, b"\x28\xb5\x2f\xfd" + bytes(100), compress=False)
    with pytest.raises(IntegrityError, match="zstd"):
        made.unpack(world / "layers/target")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do_and_leaves_nothing(world, monkeypatch, code):
    made = layer(world, member("a", b"x" * 1000))

    def full(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tree.os, "write", full)
    with pytest.raises(HostError, match="no space left") as caught:
        made.unpack(world / "layers/target")
    assert "free some space" in caught.value.hint
    assert os.listdir(world / "layers") == []


def test_where_nobody_may_write_is_said(world):
    made = layer(world, member("a", b"x"))
    with pytest.raises(HostError, match="layers/nowhere/target"):
        made.unpack(world / "layers/nowhere/target")
