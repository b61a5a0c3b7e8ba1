"""Layers merged without mounting them, and the folder of hard links that a disk is made from."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from minicontainer.lab.vm import tree
from minicontainer.lab.vm.disk import link_tree, make_disk
from minicontainer.lab.vm.tree import content_size, fingerprint, merge

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a device or a trusted attribute can be made by root alone")


def lay(folder: Path, files: dict[str, str | None]) -> str:
    """A layer with these files; None makes a folder."""
    for name, text in files.items():
        path = folder / name
        (path if text is None else path.parent).mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    return str(folder)


def shown(*layers: str) -> dict[str, str]:
    """Every name of the merged tree, with the text of files."""
    return {
        entry.name.decode(): Path(os.fsdecode(entry.source)).read_text() if entry.is_file else ""
        for entry in merge(layers)
    }


@pytest.fixture
def opaque(monkeypatch):
    """Folders that count as opaque, where the file system may not take the attribute."""
    folders: set[str] = set()
    monkeypatch.setattr(tree.whiteouts, "is_opaque", lambda path: os.fsdecode(path) in folders)
    return folders


@pytest.fixture
def white(monkeypatch):
    """Files that count as whiteouts, where devices may not be made: those called so."""
    monkeypatch.setattr(
        tree.whiteouts, "is_whiteout", lambda status: stat.S_ISREG(status.st_mode) and status.st_size == 5
    )


def test_the_topmost_wins_and_folders_are_merged(tmp_path):
    top = lay(tmp_path / "top", {"etc/a": "new", "usr/bin/app": "app"})
    below = lay(tmp_path / "below", {"etc/a": "old", "etc/b": "b", "var": None})
    assert shown(top, below) == {
        "": "", "etc": "", "etc/a": "new", "etc/b": "b", "usr": "", "usr/bin": "", "usr/bin/app": "app", "var": "",
    }  # fmt: skip


def test_names_come_in_byte_order_and_folders_before_their_contents(tmp_path):
    layer = lay(tmp_path, {"b/z": "", "b.c": "", "B": "", "b/a": "", "ä": ""})
    assert [entry.name for entry in merge([layer])] == [b"", b"B", b"b", b"b/a", b"b/z", b"b.c", "ä".encode()]


def test_a_whiteout_hides_the_name_in_all_layers_below(tmp_path, white):
    top = lay(tmp_path / "top", {"keep": "keep it", "gone": "white"})
    middle = lay(tmp_path / "middle", {"gone/deep": "a folder here"})
    assert shown(top, middle, lay(tmp_path / "low", {"gone": "a file there"})) == {"": "", "keep": "keep it"}


def test_a_whiteout_ends_the_merging_of_folders(tmp_path, white):
    top, low = lay(tmp_path / "top", {"d/new": "n"}), lay(tmp_path / "low", {"d/old": "o"})
    middle = lay(tmp_path / "middle", {"d": "white"})
    assert shown(top, middle, low) == {"": "", "d": "", "d/new": "n"}


@ROOT
def test_a_real_whiteout_and_a_real_opaque_folder(tmp_path):
    top = lay(tmp_path / "top", {"etc/new": "n"})
    os.mknod(tmp_path / "top/gone", stat.S_IFCHR, 0)
    os.setxattr(tmp_path / "top/etc", "trusted.overlay.opaque", b"y")
    assert shown(top, lay(tmp_path / "low", {"etc/old": "o", "gone": "g"})) == {"": "", "etc": "", "etc/new": "n"}


def test_an_opaque_folder_hides_what_is_below_it(tmp_path, opaque):
    top = lay(tmp_path / "top", {"etc/top": "t"})
    middle = lay(tmp_path / "middle", {"etc/middle": "m", "usr/x": "x"})
    low = lay(tmp_path / "low", {"etc/low": "l", "usr/y": "y"})
    opaque.add(str(tmp_path / "middle/etc"))
    names = shown(top, middle, low)
    assert {"etc/top", "etc/middle", "usr/x", "usr/y"} <= names.keys()
    assert "etc/low" not in names


def test_a_file_over_a_folder_and_a_folder_over_a_file(tmp_path):
    top = lay(tmp_path / "top", {"a": "now a file", "b/now": "a folder"})
    assert shown(top, lay(tmp_path / "low", {"a/x": "x", "b": "was a file"})) == {
        "": "", "a": "now a file", "b": "", "b/now": "a folder",
    }  # fmt: skip


def test_a_link_to_a_folder_is_a_link(tmp_path):
    layer = lay(tmp_path, {"real/x": "x"})
    (tmp_path / "link").symlink_to("real")
    assert [entry.name for entry in merge([layer])] == [b"", b"link", b"real", b"real/x"]


def test_what_a_user_unpacked_is_roots_in_the_guest(tmp_path):
    layer = lay(tmp_path, {"x": "x"})
    assert {entry.owner for entry in merge([layer])} == {(0, 0)}


def test_nothing_is_an_empty_tree():
    assert merge([]) == []


def test_content_is_counted_once_a_file(tmp_path):
    layer = lay(tmp_path, {"a": "12345", "b": "123"})
    os.link(tmp_path / "a", tmp_path / "c")
    assert content_size(merge([layer])) == 8


def test_the_fingerprint_changes_with_the_tree_and_only_then(tmp_path):
    layer = lay(tmp_path, {"a": "12345", "b": "123"})
    before = fingerprint(merge([layer]))
    assert fingerprint(merge([layer])) == before
    (tmp_path / "a").chmod(0o700)
    after = fingerprint(merge([layer]))
    (tmp_path / "b").rename(tmp_path / "c")
    assert len({before, after, fingerprint(merge([layer]))}) == 3


def test_the_fingerprint_knows_of_a_file_that_was_rewritten(tmp_path):
    layer = lay(tmp_path, {"a": "12345"})
    os.utime(tmp_path / "a", ns=(0, 1))
    before = fingerprint(merge([layer]))
    os.utime(tmp_path / "a", ns=(0, 2))
    assert fingerprint(merge([layer])) != before


def test_the_linked_tree_is_the_merged_one(tmp_path):
    top = lay(tmp_path / "top", {"etc/a": "new", "closed/x": "x"})
    below = lay(tmp_path / "below", {"etc/b": "b"})
    (tmp_path / "top/link").symlink_to("/etc/a")
    (tmp_path / "top/closed").chmod(0o755)
    os.utime(tmp_path / "top/etc", (1000, 1000))
    target = tmp_path / "target"
    link_tree(merge([top, below]), os.fsencode(target))
    assert (target / "etc/a").stat().st_ino == (tmp_path / "top/etc/a").stat().st_ino
    assert (target / "etc/b").read_text() == "b"
    assert os.readlink(target / "link") == "/etc/a"
    assert (target / "etc").stat().st_mtime == 1000


def test_a_tree_on_another_file_system_is_copied(tmp_path, monkeypatch):
    layer = lay(tmp_path / "layer", {"a": "text"})
    (tmp_path / "layer/a").chmod(0o4711)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    link_tree(merge([layer]), os.fsencode(tmp_path / "target"))
    assert (tmp_path / "target/a").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "target/a").stat().st_mode) == 0o4711


def test_a_disk_has_the_tree_on_it(tmp_path, needs):
    layer = lay(tmp_path / "layer", {"etc/hello": "from the disk\n"})
    make_disk(merge([layer]), str(tmp_path / "disk.ext4"))
    assert os.path.getsize(tmp_path / "disk.ext4") > 64 << 20
    needs("debugfs")
    told = subprocess.run(
        ["debugfs", "-R", "cat /etc/hello", str(tmp_path / "disk.ext4")], capture_output=True, text=True, check=True
    )
    assert told.stdout == "from the disk\n"
    assert sorted(os.listdir(tmp_path)) == ["disk.ext4", "layer"]
