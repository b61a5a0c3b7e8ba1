"""The archive that a kernel unpacks: its bytes, and that cpio(1) reads it back."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from minicontainer.lab.vm.cpio import CpioWriter
from minicontainer.lab.vm.tree import merge


def archive(folder: Path | None = None) -> bytes:
    out = io.BytesIO()
    writer = CpioWriter(out)
    writer.add_folder("bin")
    writer.add_bytes("init", b"#!/bin/sh\n")
    writer.add_link("bin/sh", "busybox")
    writer.add_device("console", 5, 1)
    if folder:
        writer.add_tree(merge([str(folder)]), "image")
    writer.finish()
    return out.getvalue()


def read(data: bytes) -> list[tuple[str, dict[str, int], bytes]]:
    """The entries of a newc archive: name, header fields, content (cpio(5))."""
    fields = "ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check".split()
    entries, at = [], 0
    while True:
        assert data[at : at + 6] == b"070701"
        header = {name: int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i, name in enumerate(fields)}
        name = data[at + 110 : at + 110 + header["namesize"] - 1].decode()
        start = -(-(at + 110 + header["namesize"]) // 4) * 4
        content = data[start : start + header["filesize"]]
        at = -(-(start + header["filesize"]) // 4) * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return entries
        entries.append((name, header, content))


def test_what_is_added_is_there_in_order():
    entries = read(archive())
    assert [name for name, _, _ in entries] == ["bin", "init", "bin/sh", "console"]
    folder, init, link, console = (header for _, header, _ in entries)
    assert stat.S_ISDIR(folder["mode"])
    assert stat.S_IMODE(init["mode"]) == 0o755
    assert stat.S_ISLNK(link["mode"])
    assert (console["rdevmajor"], console["rdevminor"]) == (5, 1)
    assert [content for _, _, content in entries] == [b"", b"#!/bin/sh\n", b"busybox", b""]


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    (tmp_path / "a").write_text("text")
    assert archive(tmp_path) == archive(tmp_path)


def test_hard_links_share_a_number_and_the_last_has_the_content(tmp_path):
    (tmp_path / "a").write_text("text")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").write_text("other")
    files = {name: (header, content) for name, header, content in read(archive(tmp_path))}
    first, second, third = files["image/a"], files["image/b"], files["image/c"]
    assert first[0]["ino"] == second[0]["ino"] != third[0]["ino"]
    assert first[0]["nlink"] == second[0]["nlink"] == 2
    assert (first[1], second[1], third[1]) == (b"", b"text", b"other")


def test_inode_numbers_are_never_shared_by_accident(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    os.link(tmp_path / "a", tmp_path / "z")
    numbers = [header["ino"] for name, header, _ in read(archive(tmp_path)) if name != "image/z"]
    assert len(numbers) == len(set(numbers))


def test_a_socket_is_left_out(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert "image/s" not in [name for name, _, _ in read(archive(tmp_path))]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_it_back(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/x").write_text("content" * 1000)
    (source / "link").symlink_to("deep/er/x")
    (source / "with space").write_bytes(b"\0\1\2")
    os.link(source / "with space", source / "twin")
    target.mkdir()
    out = io.BytesIO()
    writer = CpioWriter(out)
    writer.add_tree(merge([str(source)]), "image")
    writer.finish()
    subprocess.run(["cpio", "-idm", "--quiet"], input=out.getvalue(), cwd=target, check=True)
    assert (target / "image/deep/er/x").read_text() == "content" * 1000
    assert os.readlink(target / "image/link") == "deep/er/x"
    assert (target / "image/twin").read_bytes() == b"\0\1\2"
    assert (target / "image/twin").stat().st_ino == (target / "image/with space").stat().st_ino
