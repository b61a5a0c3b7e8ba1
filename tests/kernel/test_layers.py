"""Layers as root: owners, devices, capabilities; and the kernel's overlay agrees what a whiteout is."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

from layer_files import folder, layer, member, put, symlink

from minicontainer.images import ImageStore
from minicontainer.layers import pack, unpack

NET_BIND = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""vfs_cap_data: version 2, effective, CAP_NET_BIND_SERVICE permitted (capabilities(7))."""


def merged(*lowers: str) -> dict[str, str]:
    """What a process sees through an overlay of these folders, topmost first: names, and contents of files."""
    script = (
        "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/m && mount -t overlay "
        '-o "lowerdir=$1,upperdir=/mnt/u,workdir=/mnt/w" x /mnt/m && cd /mnt/m && '
        'find . -mindepth 1 -printf "%P " \\( -type f -exec cat {} \\; -o -printf "%y" \\) -printf "\\n"'
    )
    command = ["unshare", "-m", "sh", "-c", script, "sh", ":".join(lowers)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in output.splitlines())


def test_overlay_agrees_what_is_gone(state, tmp_path):
    store = ImageStore(state)
    below = layer(
        tmp_path,
        folder("keep"),
        member("keep/a", b"below"),
        member("keep/gone", b""),
        folder("dir"),
        member("dir/x", b""),
        folder("hidden"),
        member("hidden/x", b""),
        folder("again"),
        member("again/old", b""),
        folder("turned"),
        member("turned/x", b""),
        symlink("link", "keep"),
        member("file", b"below"),
    )
    above = layer(
        tmp_path,
        member("keep/.wh.gone", b""),
        member(".wh.dir", b""),
        folder("hidden"),
        member("hidden/.wh..wh..opq", b""),
        member("hidden/y", b"above"),
        member(".wh.again", b""),
        folder("again"),
        member("again/new", b"above"),
        member("turned", b"above"),
        folder("link"),
        member("link/own", b"above"),
        member("file", b"above"),
    )
    image = put(store, tmp_path, below, above, names=("app",))
    assert merged(*store.lowers(image)) == {
        "keep": "d",
        "keep/a": "below",
        "hidden": "d",
        "hidden/y": "above",
        "again": "d",
        "again/new": "above",
        "turned": "above",
        "link": "d",
        "link/own": "above",
        "file": "above",
    }


def test_owners_devices_and_capabilities_go_there_and_back(tmp_path):
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    tree.chmod(0o755)
    (tree / "ping").write_text("program")
    os.chown(tree / "ping", 12, 3_000_000_000)
    (tree / "ping").chmod(0o6755)
    os.setxattr(tree / "ping", "security.capability", NET_BIND)
    os.chown(tree / "dir", 7, 8)
    os.symlink("x", tree / "link")
    os.chown(tree / "link", 9, 10, follow_symlinks=False)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tree / "null").chmod(0o666)
    os.mknod(tree / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 300))
    os.mknod(tree / "dir/gone", stat.S_IFCHR, 0)
    os.setxattr(tree / "dir", "trusted.overlay.opaque", b"y")
    with (tmp_path / "blob").open("wb") as out:
        made = pack(str(tree), out)
    with tarfile.open(tmp_path / "blob") as theirs:
        assert {"dir/.wh.gone", "dir/.wh..wh..opq"} <= set(theirs.getnames())
    again = tmp_path / "again"
    with (tmp_path / "blob").open("rb") as blob:
        unpack(blob, str(again), made.digest, made.diff_id)

    def facts(root: Path) -> dict[str, object]:
        paths = [root / name for name in ("dir", "dir/gone", "disk", "link", "null", "ping")]
        return {
            path.name: (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, int(status.st_mtime))
            for path in paths
            for status in [path.lstat()]
            if path.name != "gone"
        }

    assert facts(again) == facts(tree)
    assert os.getxattr(again / "ping", "security.capability") == NET_BIND
    assert os.getxattr(again / "dir", "trusted.overlay.opaque") == b"y"
    assert (again / "dir/gone").stat().st_rdev == 0
    with (tmp_path / "blob2").open("wb") as out:
        assert pack(str(again), out) == made


def test_a_layer_may_not_steer_the_mount(state, tmp_path):
    """Overlay's own attributes in a layer would be read by the mount: a redirect to any folder of the layers."""
    headers = {
        f"SCHILY.xattr.trusted.overlay.{name}": value for name, value in {"redirect": "/secret", "opaque": "y"}.items()
    }
    store = ImageStore(state)
    below = layer(tmp_path, folder("secret"), member("secret/x", b""), folder("dir"), member("dir/own", b""))
    above = layer(tmp_path, folder("dir", pax_headers=headers))
    assert merged(*store.lowers(put(store, tmp_path, below, above)))["dir/own"] == ""
