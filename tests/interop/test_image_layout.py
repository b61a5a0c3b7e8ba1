"""The store and other people's programs: skopeo and umoci read what we write in place, and we read what they write."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from layer_files import folder, hardlink, layer, listing, member, put, symlink

from minicontainer.images import ImageStore
from minicontainer.images.image import architecture
from minicontainer.paths import Paths

NAMES = ("app:1", "localhost:5000/team/app:v1", "quay.io/a-b/c.d:latest")


def run(*command: str | Path) -> str:
    result = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


@pytest.fixture
def store(tmp_path):
    return ImageStore(Paths(state=str(tmp_path / "state")))


@pytest.fixture
def app(store, tmp_path):
    lower = layer(
        tmp_path,
        folder("etc"),
        member("etc/a", b"below"),
        member("etc/gone", b""),
        folder("old"),
        member("old/x", b""),
        hardlink("hard", "etc/a"),
        symlink("soft", "/etc/a"),
        member("d" * 90 + "/" + "ü" * 60, b"long", pax_headers={"SCHILY.xattr.user.mine": "kept"}),
    )
    upper = layer(
        tmp_path,
        member("etc/.wh.gone", b""),
        member("etc/a", b"above"),
        member("old/.wh..wh..opq", b""),
        member("old/y", b""),
    )
    return put(
        store,
        tmp_path,
        lower,
        upper,
        names=NAMES,
        config={"Cmd": ["run"], "Env": ["A=b"]},
        created="2024-01-02T03:04:05Z",
    )


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize("name", NAMES)
def test_skopeo_reads_the_store_under_every_name(store, app, name):
    found = json.loads(run("skopeo", "inspect", f"oci:{store.paths.images}:{name}"))
    assert (found["Digest"], found["Layers"]) == (app.digest, [each.digest for each in app.layers])
    assert (found["Env"], found["Created"], found["Architecture"]) == (["A=b"], app.created, architecture())


@pytest.mark.peer("skopeo")
def test_skopeo_copies_out_of_the_store(store, app, tmp_path):
    run("skopeo", "copy", f"oci:{store.paths.images}:app:1", f"dir:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest == json.loads(store.read_blob(app.digest))
    assert (tmp_path / "out" / app.id[7:]).read_bytes() == store.read_blob(app.id)


@pytest.mark.peer("skopeo")
def test_skopeo_copies_into_the_store(store, app, tmp_path):
    run("skopeo", "copy", f"oci:{store.paths.images}:app:1", f"dir:{tmp_path}/out")
    other = ImageStore(Paths(state=str(tmp_path / "other")))
    put(other, tmp_path, names=("mine:1",))
    run("skopeo", "copy", f"dir:{tmp_path}/out", f"oci:{other.paths.images}:team/app:2")
    run("skopeo", "copy", f"dir:{tmp_path}/out", f"oci:{other.paths.images}:bare")
    assert sorted(image.reference for image in other.list()) == ["bare:latest", "mine:1", "team/app:2"]
    found = other.resolve("team/app:2")
    assert (found.id, found.diff_ids) == (app.id, app.diff_ids)
    assert [listing(Path(each)) for each in other.lowers(found)] == [listing(Path(each)) for each in store.lowers(app)]
    other.remove("mine:1")
    assert len(other.lowers(other.resolve("bare"))) == 2


@pytest.mark.peer("skopeo")
def test_skopeo_turns_an_image_into_dockers_and_back(store, app, tmp_path):
    run("skopeo", "copy", "--format", "v2s2", f"oci:{store.paths.images}:app:1", f"dir:{tmp_path}/docker")
    manifest = json.loads((tmp_path / "docker/manifest.json").read_text())
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    run("skopeo", "copy", f"dir:{tmp_path}/docker", f"oci:{tmp_path}/back:app:1")
    back = json.loads(run("skopeo", "inspect", f"oci:{tmp_path}/back:app:1"))
    assert back["Layers"] == [each.digest for each in app.layers]


ROOTLESS = [] if os.geteuid() == 0 else ["--rootless"]


@pytest.mark.peer("umoci")
def test_umoci_lists_and_unpacks_the_store(store, app, tmp_path):
    assert sorted(run("umoci", "ls", "--layout", store.paths.images).split()) == sorted(NAMES)
    run(
        "umoci", "unpack", *ROOTLESS, "--image", f"{store.paths.images}:localhost:5000/team/app:v1", tmp_path / "bundle"
    )
    root = tmp_path / "bundle/rootfs"
    assert listing(root) == {
        "etc": "folder", "etc/a": "file b'above'", "old": "folder", "old/y": "file b''", "hard": "file b'below'",
        "soft": "-> /etc/a", "d" * 90: "folder", "d" * 90 + "/" + "ü" * 60: "file b'long'",
    }  # fmt: skip
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert config["process"]["args"] == ["run"]


@pytest.mark.peer("umoci")
def test_what_umoci_makes_of_our_image_is_read(store, app, tmp_path):
    """umoci unpacks it, the test changes it, umoci packs the difference into the store as one more layer."""
    image = f"{store.paths.images}:app:2"
    run("umoci", "unpack", *ROOTLESS, "--image", f"{store.paths.images}:app:1", tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"
    (root / "etc/a").unlink()
    (root / "old/y").unlink()
    (root / "old").rmdir()
    (root / "new").mkdir(mode=0o711)
    (root / "new/file").write_text("made")
    os.link(root / "new/file", root / "new/hard")
    os.symlink("../etc", root / "new/soft")
    run("umoci", "repack", "--image", image, tmp_path / "bundle")
    run("umoci", "config", "--image", image, "--config.cmd", "other")
    found = store.resolve("app:2")
    assert found.diff_ids[:2] == app.diff_ids
    assert found.config["config"]["Cmd"] == ["other"]
    top = Path(store.lowers(found)[0])
    assert listing(top) == {
        "etc": "folder", "etc/a": "whiteout", "old": "whiteout", "new": "folder", "new/file": "file b'made'",
        "new/hard": "file b'made'", "new/soft": "-> ../etc",
    }  # fmt: skip
    assert (top / "new").stat().st_mode & 0o777 == 0o711
    assert (top / "new/file").samefile(top / "new/hard")
    assert sorted(image.reference for image in store.list() if image.reference) == sorted([*NAMES, "app:2"])


@pytest.mark.peer("umoci")
def test_umoci_and_we_collect_the_same(store, app, tmp_path):
    layout = store.paths.images
    run("umoci", "new", "--image", f"{layout}:empty")
    store.put_blob(b"nobody names this")
    run("umoci", "gc", "--layout", layout)
    assert len(store.lowers(store.resolve("app:1"))) == 2
    store.put_blob(b"nobody names this")
    for name in NAMES:
        store.remove(name)
    left = set(os.listdir(Path(layout, "blobs/sha256")))
    run("umoci", "gc", "--layout", layout)
    assert set(os.listdir(Path(layout, "blobs/sha256"))) == left
    assert run("umoci", "ls", "--layout", layout).split() == ["empty"]
    run("umoci", "stat", "--image", f"{layout}:empty")


@pytest.mark.peer("umoci")
def test_a_whole_folder_packed_by_us_is_the_same_to_umoci(store, tmp_path):
    from minicontainer.images.assembly import put_image
    from minicontainer.layers import pack

    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_text("x" * 3000)
    os.link(tree / "a/b/file", tree / "hard")
    os.symlink("a/b", tree / "soft")
    (tree / ("n" * 200)).write_text("long")
    with (tmp_path / "blob").open("wb") as out:
        made = pack(str(tree), out, epoch=5, owner=(os.getuid(), os.getgid()))
    put_image(store, [(made, str(tmp_path / "blob"))], {"architecture": architecture(), "os": "linux"}, ["tree"])
    run("umoci", "unpack", *ROOTLESS, "--image", f"{store.paths.images}:tree:latest", tmp_path / "bundle")
    assert listing(tmp_path / "bundle/rootfs") == listing(tree)
    assert {path.lstat().st_mtime for path in (tmp_path / "bundle/rootfs").rglob("*")} == {5}
