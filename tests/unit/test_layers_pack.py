"""Packing: equal trees give equal bytes, and others read what is in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import socket
import tarfile
from pathlib import Path

import pytest
from layer_files import archive, folder, listing, member

from minicontainer.errors import Conflict, InvalidArgument
from minicontainer.layers import pack, repack, tar, unpack
from minicontainer.layers.packing import LayerWriter
from minicontainer.trees import remove_tree

EPOCH = 1_700_000_000
NAMES = ["b", "a/x", "a/y", "a.txt", "a/z/deep", "ü", "a-b/c"]


def packed(tree: Path, **options: object):
    out = io.BytesIO()
    layer = pack(str(tree), out, **{"epoch": EPOCH, "owner": (0, 0), **options})
    return layer, out.getvalue()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as theirs:
        return {info.name: info for info in theirs.getmembers()}


def make(tree: Path, seed: int) -> Path:
    """The same tree each time, but made in another order, with other inodes and other times."""
    chance = random.Random(seed)
    tree.mkdir()
    for name in chance.sample(NAMES, len(NAMES)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(f"content of {name}")
    os.symlink("a.txt", tree / "link")
    for first, second in chance.sample([("b", "hard"), ("b", "a/harder")], 2):
        os.link(tree / first, tree / second)
    if chance.random() < 0.5:  # now another name is the older one
        os.rename(tree / "hard", tree / "b2")
        os.link(tree / "b2", tree / "hard")
        os.unlink(tree / "b2")
    for path in tree.rglob("*"):
        os.utime(path, (EPOCH + chance.randint(1, 10**8),) * 2, follow_symlinks=False)
    return tree


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    results = {packed(make(tmp_path / str(seed), seed))[1] for seed in range(6)}
    assert len(results) == 1


def test_another_tree_gives_others(tmp_path):
    first, second = make(tmp_path / "1", 1), make(tmp_path / "2", 1)
    (second / "b").chmod(0o600)
    assert packed(first)[0].diff_id != packed(second)[0].diff_id


def test_the_digests_are_those_of_the_bytes(tmp_path):
    layer, data = packed(make(tmp_path / "tree", 0))
    assert layer.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    assert layer.size == len(data)


def test_gzip_tells_neither_time_nor_name(tmp_path):
    _, data = packed(make(tmp_path / "tree", 0))
    assert data[3:8] == bytes(5)  # flags and time (RFC 1952, 2.3)


def test_entries_are_sorted_and_plain(tmp_path):
    _, data = packed(make(tmp_path / "tree", 3))
    found = members(data)
    assert list(found) == [
        "a",
        "a/harder",
        "a/x",
        "a/y",
        "a/z",
        "a/z/deep",
        "a-b",
        "a-b/c",
        "a.txt",
        "b",
        "hard",
        "link",
        "ü",
    ]
    assert {info.mtime for info in found.values()} == {EPOCH}
    assert {(info.uid, info.gid, info.uname, info.gname) for info in found.values()} == {(0, 0, "", "")}
    assert (found["b"].type, found["b"].linkname) == (tarfile.LNKTYPE, "a/harder")
    assert (found["link"].type, found["link"].linkname) == (tarfile.SYMTYPE, "a.txt")
    assert found["ü"].pax_headers == {"path": "ü"}
    assert found["a.txt"].pax_headers == {}


def test_times_before_the_epoch_stay(tmp_path):
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", (5, 5))
    (tmp_path / "new").touch()
    found = members(packed(tmp_path)[1])
    assert (found["old"].mtime, found["new"].mtime) == (5, EPOCH)
    now = members(packed(tmp_path, epoch=None)[1])
    assert now["new"].mtime == int((tmp_path / "new").stat().st_mtime)


def test_owners_are_kept_unless_one_is_given(tmp_path):
    (tmp_path / "a").touch()
    info = members(packed(tmp_path, owner=None)[1])["a"]
    assert (info.uid, info.gid) == (os.getuid(), (tmp_path / "a").stat().st_gid)


def test_pipes_are_kept_and_sockets_are_not(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o620)
    (tmp_path / "pipe").chmod(0o620)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        found = members(packed(tmp_path)[1])
    assert list(found) == ["pipe"]
    assert (found["pipe"].type, found["pipe"].mode) == (tarfile.FIFOTYPE, 0o620)


def test_overlays_marks_become_the_tars(tmp_path):
    (tmp_path / "dir").mkdir()
    os.mknod(tmp_path / "dir/gone", 0o20600, 0)
    os.mknod(tmp_path / "top", 0o20600, 0)
    os.setxattr(tmp_path / "dir", "user.overlay.opaque", b"y")
    os.setxattr(tmp_path / "dir", "user.mine", b"kept")
    found = members(packed(tmp_path)[1])
    assert list(found) == ["dir", "dir/.wh..wh..opq", "dir/.wh.gone", ".wh.top"]
    assert found["dir"].pax_headers == {"SCHILY.xattr.user.mine": "kept"}


def test_a_name_that_would_be_a_mark_is_refused(tmp_path):
    (tmp_path / ".wh.x").touch()
    with pytest.raises(InvalidArgument, match=r"\.wh\.x"):
        packed(tmp_path)


@pytest.mark.parametrize("pieces", [[b"abc"], [b"ab", b"cde"], []])
def test_a_file_that_changes_meanwhile_is_noticed(pieces):
    with pytest.raises(Conflict, match="changed"):
        LayerWriter(io.BytesIO()).add(tar.Entry(b"a", size=4), pieces)


def test_another_programs_tar_becomes_a_layer_of_ours():
    theirs = archive(
        folder("./"), folder("./etc", uname="root", mtime=EPOCH + 9.5), member("./etc/a", b"x" * 700, mtime=4),
        member("./etc/b", kind=tarfile.LNKTYPE, linkname="./etc/a"), folder("./tmp"), member("./tmp/x", b"y"),
    )  # fmt: skip
    out = io.BytesIO()
    layer = repack(io.BytesIO(theirs), out, EPOCH, lambda name: not name.startswith(b"tmp/"))
    found = members(out.getvalue())
    assert list(found) == ["etc", "etc/a", "etc/b", "tmp"]
    assert (found["etc"].mtime, found["etc/a"].mtime, found["etc"].uname) == (EPOCH, 4, "")
    assert found["etc/b"].linkname == "etc/a"
    assert layer.size == len(out.getvalue())


def test_packing_what_was_unpacked_gives_the_same_bytes(tmp_path):
    (tree := make(tmp_path / "tree", 0)).chmod(0o755)
    os.mknod(tree / "a/gone", 0o20600, 0)
    layer, data = packed(tree)
    (tmp_path / "blob").write_bytes(data)
    with (tmp_path / "blob").open("rb") as file:
        unpack(file, str(tmp_path / "again"), layer.digest, layer.diff_id)
    assert listing(tmp_path / "again") == listing(tree)
    assert packed(tmp_path / "again")[1] == data


def test_a_tree_is_removed_whatever_its_modes_and_its_depth(tmp_path):
    (tmp_path / "tree/closed/inner").mkdir(parents=True)
    (tmp_path / "tree/closed/inner/file").touch()
    (tmp_path / "tree/closed/inner").chmod(0)
    (tmp_path / "tree/closed").chmod(0o500)
    (tmp_path / "kept").mkdir()
    os.symlink("../kept", tmp_path / "tree/link")
    for depth in range(1, 1500):  # deeper than Python's stack
        os.mkdir(f"{tmp_path}/tree/{'d/' * depth}")
    remove_tree(str(tmp_path / "tree"))
    remove_tree(str(tmp_path / "tree"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
