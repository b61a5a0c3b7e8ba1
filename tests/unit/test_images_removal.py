"""Removing images: Docker's lines and conflicts, what is collected, and what a crash leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from layer_files import folder, layer, member, put

from minicontainer.errors import Conflict, ImageNotFound, MinicontainerError
from minicontainer.images import ImageStore
from minicontainer.layers import Scratch
from minicontainer.paths import Paths

CONTAINER = "c0ffee" * 10 + "0123"


@pytest.fixture
def store(tmp_path):
    return ImageStore(Paths(state=str(tmp_path / "state")))


@pytest.fixture
def base(tmp_path):
    return layer(tmp_path, folder("etc"), member("etc/a", b"below"))


@pytest.fixture
def top(tmp_path):
    return layer(tmp_path, member("b", b"above"))


@pytest.fixture
def app(store, tmp_path, base, top):
    image = put(store, tmp_path, base, top, names=("app:1",))
    store.lowers(image)
    return image


def blobs(store) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(Path(store.paths.images, "blobs/sha256"))}


def layers(store) -> list[str]:
    return sorted(os.listdir(store.paths.layers))


def test_the_last_name_takes_everything_with_it(store, app):
    lines = store.remove("app:1")
    assert lines == [
        "Untagged: app:1",
        f"Deleted: {app.id}",
        f"Deleted: {app.diff_ids[1]}",
        f"Deleted: {app.diff_ids[0]}",
    ]
    assert (store.list(), blobs(store), layers(store)) == ([], set(), [])


def test_a_name_of_several_takes_nothing(store, app):
    store.tag(app, "app:2")
    assert store.remove("app:1") == ["Untagged: app:1"]
    assert [image.reference for image in store.list()] == ["app:2"]
    assert len(layers(store)) == 4


def test_what_another_image_has_too_stays(store, app, base, tmp_path):
    other = put(store, tmp_path, base, names=("other",))
    assert store.remove("app:1") == ["Untagged: app:1", f"Deleted: {app.id}", f"Deleted: {app.diff_ids[1]}"]
    assert blobs(store) == {other.digest, other.id, other.layers[0].digest}
    assert layers(store) == [base.diff_id[7:], f"{base.diff_id[7:]}.size"]
    assert len(store.lowers(store.resolve("other"))) == 1


@pytest.mark.parametrize("identity", ["id", "short_id", "digest"])
def test_by_id(store, app, identity):
    assert store.remove(getattr(app, identity))[:2] == ["Untagged: app:1", f"Deleted: {app.id}"]
    assert store.list() == []


def test_by_id_with_several_names_needs_force(store, app):
    store.tag(app, "app:2")
    with pytest.raises(Conflict) as caught:
        store.remove(app.short_id)
    assert caught.value.message == (
        f"conflict: unable to delete {app.short_id} (must be forced) - image is referenced in multiple repositories"
    )
    assert store.remove(app.short_id, force=True)[:3] == ["Untagged: app:1", "Untagged: app:2", f"Deleted: {app.id}"]


def test_an_image_in_use_by_name(store, app):
    with pytest.raises(Conflict) as caught:
        store.remove("app:1", in_use={app.id: CONTAINER})
    assert caught.value.message == (
        'conflict: unable to remove repository reference "app:1" (must force) - '
        f"container c0ffeec0ffee is using its referenced image {app.short_id}"
    )
    assert store.resolve("app:1") == store.resolve(app.id)


def test_an_image_in_use_by_id(store, app):
    with pytest.raises(
        Conflict, match=f"unable to delete {app.short_id} .must be forced. - image is being used by container c0ff"
    ):
        store.remove(app.id, in_use=lambda: {app.id: CONTAINER})


def test_by_force_an_image_in_use_loses_its_name_but_not_its_layers(store, app):
    used = {app.id: CONTAINER}
    before = (blobs(store), layers(store))
    assert store.remove("app:1", force=True, in_use=used) == ["Untagged: app:1"]
    assert [image.reference for image in store.list()] == [""]
    assert (blobs(store), layers(store)) == before
    assert store.remove(app.id, force=True, in_use=used) == []
    assert store.remove(app.id)[0] == f"Deleted: {app.id}"
    assert (blobs(store), layers(store)) == (set(), [])


def test_a_name_of_several_isnt_in_the_way_of_a_container(store, app):
    store.tag(app, "app:2")
    assert store.remove("app:1", in_use={app.id: CONTAINER}) == ["Untagged: app:1"]


def test_what_isnt_there(store, app):
    with pytest.raises(ImageNotFound):
        store.remove("other")
    with pytest.raises(ImageNotFound):
        ImageStore(Paths(state=store.paths.state + "2")).remove("other")


@pytest.mark.parametrize("which", ["digest", "id", "layer"])
def test_a_damaged_image_can_be_removed(store, app, base, tmp_path, which):
    path = store.blob_path(app.layers[0].digest if which == "layer" else getattr(app, which))
    Path(path).write_bytes(b"damaged")
    assert store.remove("app:1")[0] == "Untagged: app:1"
    assert (store.list(), blobs(store), layers(store)) == ([], set(), [])


def test_while_another_image_is_damaged_nothing_else_is_lost(store, app, base, tmp_path):
    other = put(store, tmp_path, base, names=("other",))
    Path(store.blob_path(other.digest)).write_bytes(b"damaged")
    before = blobs(store)
    assert store.remove("app:1") == ["Untagged: app:1", f"Deleted: {app.id}"]
    assert blobs(store) == before
    store.remove("other")
    assert blobs(store) == set()


def test_what_the_dead_left_is_collected(store, app):
    Path(store.blob_path(app.id) + ".123.tmp").touch()
    Path(store.paths.images, "index.json.123.tmp").touch()
    Path(store.paths.layers, "0" * 64).mkdir()
    Path(store.paths.layers, f"{'1' * 64}.size").touch()
    Path(store.paths.layers, ".tmp-dead").mkdir()
    store.put_blob(b"nobody names this")
    with Scratch(store.paths.layers) as living:
        Path(store.paths.images, "not ours").touch()
        store.remove("app:1")
        assert layers(store) == [os.path.basename(living.path)]
    assert blobs(store) == set()
    assert sorted(os.listdir(store.paths.images)) == ["blobs", "index.json", "not ours", "oci-layout"]


def test_images_for_many_machines_keep_what_is_theirs(store, app, base, tmp_path):
    part = put(store, tmp_path, base)
    absent = "sha256:" + "0" * 64
    index = store.put_blob(json.dumps({"manifests": [{"digest": part.digest}, {"digest": absent}]}).encode())
    with store.lock():
        store.write_entries([*store.entries()[:1], {"mediaType": "x", "digest": index, "size": 1}])
    store.remove("app:1")
    assert blobs(store) == {index, part.digest, part.id, part.layers[0].digest}


def test_what_a_container_uses_stays_though_another_program_took_its_name(store, app, base, tmp_path):
    other = put(store, tmp_path, base, names=("other",), author="me")
    with store.lock():
        store.write_entries([entry for entry in store.entries() if entry["digest"] != app.digest])
    store.remove("other", in_use={app.id: CONTAINER})
    assert layers(store) == sorted(f"{each[7:]}{end}" for each in app.diff_ids for end in ("", ".size"))
    assert blobs(store) == {app.id}
    assert other.id not in blobs(store)


def test_something_else_than_an_image_isnt_in_the_way(store, app):
    """Registries hold signatures and the like as manifests with a config of their own."""
    config = store.put_blob(b"{}")
    digest = store.put_blob(json.dumps({"config": {"digest": config}, "layers": []}).encode())
    with store.lock():
        store.write_entries([*store.entries(), {"mediaType": "x", "digest": digest, "size": 1}])
    store.remove("app:1")
    assert blobs(store) == {digest, config}


# ── killed at any moment ──────────────────────────────────────────────────────────────────────────────────────────

KILLED = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[1] + "/tests/plugins")
state, work, last = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
count = 0
def dying(real):
    def call(*arguments, **options):
        global count
        count += 1
        if count > last:
            os._exit(9)
        return real(*arguments, **options)
    return call
from layer_files import folder, layer, member, put
from minicontainer.images import ImageStore
from minicontainer.paths import Paths
import minicontainer.layers
store = ImageStore(Paths(state=state))
made = [layer(work, folder("etc"), member("etc/a", b"below")), layer(work, member("b", b"above"))]
minicontainer.layers.unpack  # imported before anybody dies
for name in ("rename", "unlink", "rmdir", "mkdir", "open", "chmod", "fsync", "utime"):
    setattr(os, name, dying(getattr(os, name)))
image = put(store, work, *made, names=("app:1", "app:2"))
store.lowers(image)
store.remove("app:1")
store.remove("app:2")
print(count)
"""


def test_killed_anywhere_the_next_command_finds_what_it_understands(tmp_path, checkout, base):
    """The process dies at its first, second, … change to the disk; what it left must be whole, and removable."""
    survived, last = False, 0
    while not survived:
        (work := tmp_path / f"{last}").mkdir()
        store = ImageStore(Paths(state=str(work / "state")))
        command = [sys.executable, "-c", KILLED, str(checkout), store.paths.state, str(work), str(last)]
        survived = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        for image in store.list():
            assert len(store.lowers(image)) == 2
            assert store.resolve(image.reference).id == image.id
        put(store, work, base, names=("other",))
        for image in store.list():
            store.remove(image.reference or image.id, force=True)
        assert (blobs(store), layers(store), store.list()) == (set(), [], [])
        last += 3
    assert last > 60


def test_an_interrupted_unpacking_leaves_nothing(store, tmp_path, base, monkeypatch):
    image = put(store, tmp_path, base, names=("app",))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("minicontainer.layers.unpacking.Tree.add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.lowers(image)
    assert layers(store) == []
    monkeypatch.undo()
    assert len(store.lowers(image)) == 1


def test_errors_are_ours(store, app):
    with pytest.raises(MinicontainerError):
        store.remove("a b")
