"""The store: names, IDs, digests, unpacked layers, and documents that are damaged or strange."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import pytest
import referencing
from layer_files import blob, folder, layer, listing, member, put, sha256

from minicontainer.errors import (
    DigestMismatch,
    HostError,
    ImageNotFound,
    IntegrityError,
    InvalidArgument,
    NotFound,
)
from minicontainer.images import ImageStore
from minicontainer.images.assembly import put_image
from minicontainer.images.image import architecture, read_config, read_index, read_manifest
from minicontainer.layers import Layer
from minicontainer.paths import Paths


@pytest.fixture
def store(tmp_path):
    return ImageStore(Paths(state=str(tmp_path / "state")))


@pytest.fixture
def lower(tmp_path):
    return layer(tmp_path, folder("etc"), member("etc/a", b"below"), member("only", b"12345"))


@pytest.fixture
def upper(tmp_path):
    return layer(tmp_path, folder("etc"), member("etc/a", b"above"))


@pytest.fixture
def app(store, tmp_path, lower, upper):
    return put(store, tmp_path, lower, upper, names=("app:1",), created="2024-01-02T03:04:05Z", config={"Cmd": ["run"]})


def corrupt(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_image_is_what_was_put_in(store, app, lower, upper):
    assert store.resolve("app:1") == app
    assert store.list() == [app]
    assert (app.reference, app.created, app.config["config"]) == ("app:1", "2024-01-02T03:04:05Z", {"Cmd": ["run"]})
    assert app.diff_ids == (lower.diff_id, upper.diff_id)
    assert [each.digest for each in app.layers] == [lower.digest, upper.digest]
    assert app.id == sha256(store.read_blob(app.id))
    assert json.loads(store.read_blob(app.digest))["config"]["digest"] == app.id
    assert app.short_id == app.id[7:19]


@pytest.mark.parametrize("name", ["app:1", "docker.io/library/app:1", "library/app:1", "index.docker.io/app:1"])
def test_every_way_to_write_the_name(store, app, name):
    assert store.resolve(name) == app


def test_ids_digests_and_their_beginnings(store, app):
    for name in (
        app.id,
        app.id[7:],
        app.id[7:19],
        app.id[:20],
        app.id[7:8],
        app.digest,
        f"app@{app.digest}",
        f"app:x@{app.digest}",
    ):
        assert store.resolve(name) == app


def test_a_name_wins_over_an_id(store, app, tmp_path, lower):
    short = put(store, tmp_path, lower, names=(f"{app.id[7:19]}:latest",))
    assert store.resolve(app.id[7:19]) == short


def test_a_beginning_of_two_ids_is_ambiguous(store, tmp_path):
    for number in range(17):  # two of them begin alike
        put(store, tmp_path, names=(f"image{number}",), author=str(number))
    first = [image.id[7] for image in store.list()]
    twice = next(digit for digit in first if first.count(digit) > 1)
    with pytest.raises(InvalidArgument, match="ambiguous"):
        store.resolve(twice)


@pytest.mark.parametrize(
    "name", ["app", "app:2", "other", "0000", "sha256:0000", "sha256:" + "0" * 64, "app@sha256:" + "0" * 64]
)
def test_what_isnt_there_is_said_in_dockers_words(store, app, name):
    shown = {"app": "app:latest", "other": "other:latest", "0000": "0000:latest"}.get(name, name)
    with pytest.raises(ImageNotFound) as caught:
        store.resolve(name)
    assert caught.value.message == f"Unable to find image '{shown}' locally"
    assert "app:1" in caught.value.hint


def test_an_empty_store_says_how_to_get_an_image_and_makes_nothing(store):
    with pytest.raises(ImageNotFound) as caught:
        store.resolve("busybox")
    assert "minicontainer image bootstrap busybox" in caught.value.hint
    assert store.list() == []
    assert not os.path.exists(store.paths.state)


def test_what_cant_be_a_name_is_refused(store):
    with pytest.raises(InvalidArgument, match="must be lowercase"):
        store.resolve("Busybox")


def test_tags(store, app):
    store.tag(app, "team/app:2")
    store.tag(app, "app:1")
    assert [image.reference for image in store.list()] == ["team/app:2", "app:1"]
    assert store.resolve("team/app:2").replace(reference="app:1") == app
    with pytest.raises(InvalidArgument, match="digest reference"):
        store.tag(app, f"x@{app.digest}")
    with pytest.raises(ImageNotFound):
        store.tag(app.replace(digest="sha256:" + "0" * 64), "x")


def test_who_loses_its_name_stays_without(store, app, tmp_path, lower):
    other = put(store, tmp_path, lower, names=("app:1",))
    assert [(image.reference, image.digest) for image in store.list()] == [("", app.digest), ("app:1", other.digest)]
    store.tag(store.resolve(app.id), "app:old")
    assert sorted(image.reference for image in store.list()) == ["app:1", "app:old"]


def test_an_image_without_a_name(store, tmp_path, lower):
    for _ in range(2):
        image = put(store, tmp_path, lower)
        assert [each.reference for each in store.list()] == [""]
    assert store.resolve(image.short_id) == image


def test_names_of_other_programs(store, app):
    """skopeo and umoci write whatever tag they were given as the annotation."""
    index = store.entries()
    for name in ("latest", "3.12", "Not A Name"):
        index.append({**index[0], "annotations": {"org.opencontainers.image.ref.name": name}})
    with store.lock():
        store.write_entries(index)
    assert [image.reference for image in store.list()] == ["app:1", "latest:latest", "3.12:latest", "Not A Name"]
    assert store.resolve("latest").reference == "latest:latest"


# ── layers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_layers_are_unpacked_once_topmost_first(store, app, lower, upper):
    below, above = (f"{store.paths.layers}/{each.diff_id[7:]}" for each in (lower, upper))
    assert store.lowers(app) == (above, below)
    assert listing(Path(above)) == {"etc": "folder", "etc/a": "file b'above'"}
    before = os.stat(above).st_ino
    for each in app.layers:
        os.unlink(store.blob_path(each.digest))
    assert store.lowers(app) == (above, below)
    assert os.stat(above).st_ino == before


def test_the_size_is_that_of_the_files_once_it_is_known(store, app):
    assert app.size == sum(each.size for each in app.layers)
    store.lowers(app)
    assert store.resolve("app:1").size == len("below") + len("12345") + len("above")


def test_layers_are_for_their_owner_alone(store, app):
    store.lowers(app)
    assert os.stat(store.paths.layers).st_mode & 0o777 == 0o700


def test_an_image_without_layers_and_one_with_a_layer_twice(store, tmp_path, lower, upper):
    assert store.lowers(put(store, tmp_path)) == ()
    twice = put(store, tmp_path, lower, upper, lower)
    assert [os.path.basename(each) for each in store.lowers(twice)] == [lower.diff_id[7:], upper.diff_id[7:]]


def test_a_damaged_layer_is_found_before_anything_can_use_it(store, app):
    corrupt(store.blob_path(app.layers[1].digest))
    with pytest.raises(IntegrityError):
        store.lowers(app)
    assert not os.path.exists(store.layer_folder(app.diff_ids[1]))


def test_a_layer_that_isnt_there_is_named(store, app):
    os.unlink(store.blob_path(app.layers[0].digest))
    with pytest.raises(IntegrityError, match=f"image app:1 is damaged: its layer {app.layers[0].digest}"):
        store.lowers(app)


def test_the_limit_for_layers(store, app):
    with pytest.raises(IntegrityError, match="limit"):
        ImageStore(store.paths, layer_limit=1000).lowers(app)


def test_two_at_once_unpack_once(store, app, monkeypatch):
    script = """
import sys
from minicontainer.images import ImageStore
from minicontainer.paths import Paths
import minicontainer.layers.unpacking as unpacking
real = unpacking.unpack
def unpack(*arguments):
    print("unpacked", flush=True)
    real(*arguments)
unpacking.unpack = unpack
store = ImageStore(Paths(state=sys.argv[1]))
store.lowers(store.resolve("app:1"))
"""
    command = [sys.executable, "-c", script, store.paths.state]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert "".join(outputs).count("unpacked") == 2


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("which", ["digest", "id"])
def test_a_damaged_document_is_found_at_every_read(store, app, which):
    corrupt(store.blob_path(getattr(app, which)))
    for read in (store.list, lambda: store.resolve("app:1")):
        with pytest.raises(DigestMismatch) as caught:
            read()
        assert "app:1" in caught.value.message
        assert "rmi app:1" in caught.value.hint


def test_a_missing_document_is_found(store, app):
    os.unlink(store.blob_path(app.id))
    with pytest.raises(NotFound, match="app:1"):
        store.resolve("app:1")


def test_making_it_again_heals(store, app, tmp_path, lower, upper):
    for digest in (app.digest, app.id, app.layers[0].digest):
        corrupt(store.blob_path(digest))
    again = put(store, tmp_path, lower, upper, names=("app:1",), created=app.created, config={"Cmd": ["run"]})
    assert again == app
    assert len(store.lowers(again)) == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"manifests": 1}', '{"manifests": [1]}', '{"manifests": [{"digest": "sha256:../../x"}]}'],
)
def test_an_index_that_isnt_one(store, app, text):
    Path(store.paths.images, "index.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"index\.json"):
        store.resolve("app:1")


DIGEST = "sha256:" + "0" * 64
CONFIG = {"rootfs": {"type": "layers", "diff_ids": []}}
MANIFESTS = {
    "not an object": [],
    "nothing in it": {},
    "no layers": {"config": {"digest": DIGEST}},
    "layers of another shape": {"config": {"digest": DIGEST}, "layers": [1]},
    "a size that isn't one": {
        "config": {"digest": DIGEST},
        "layers": [{"mediaType": "x", "digest": DIGEST, "size": "big"}],
    },
    "a digest that is a path": {"config": {"digest": "sha256:" + "../" * 21 + "x"}, "layers": []},
    "a layer's digest that is a path": {
        "config": {"digest": DIGEST},
        "layers": [{"mediaType": "x", "digest": "../x", "size": 1}],
    },
    "an index without this machine": {
        "manifests": [{"digest": DIGEST, "platform": {"os": "linux", "architecture": "none"}}]
    },
}


@pytest.mark.parametrize("document", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_isnt_one(store, document):
    digest = store.put_blob(json.dumps(document).encode())
    with store.lock():
        store.write_entries([{"mediaType": "x", "digest": digest, "size": 1}])
    with pytest.raises(IntegrityError):
        store.resolve(digest)


CONFIGS = {
    "not an object": [],
    "no rootfs": {},
    "too many diff ids": {"rootfs": {"diff_ids": [DIGEST]}},
    "no list": {"rootfs": {"diff_ids": 1}},
    "a config of another shape": {**CONFIG, "config": [1]},
    "a diff id that is a path": {"rootfs": {"diff_ids": ["../../../etc"]}},
}


@pytest.mark.parametrize("document", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_that_isnt_one(store, document):
    config = store.put_blob(json.dumps(document).encode())
    digest = store.put_blob(json.dumps({"config": {"digest": config}, "layers": []}).encode())
    with store.lock():
        store.write_entries([{"mediaType": "x", "digest": digest, "size": 1}])
    with pytest.raises(IntegrityError):
        store.resolve(digest)


def test_a_document_of_any_size_isnt_read(store, app):
    with open(store.blob_path(app.id), "ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(IntegrityError, match="too large"):
        store.resolve("app:1")


def test_of_an_image_for_many_machines_the_own_variant_is_taken(store, app):
    other = store.put_blob(json.dumps({"config": {"digest": DIGEST}, "layers": []}).encode())
    variants = [
        {"digest": other, "platform": {"os": "linux", "architecture": "none"}},
        {"digest": app.digest, "platform": {"os": "linux", "architecture": architecture()}},
    ]
    index = store.put_blob(json.dumps({"schemaVersion": 2, "manifests": variants}).encode())
    with store.lock():
        name = {"org.opencontainers.image.ref.name": "many:1"}
        store.write_entries([{"mediaType": "x", "digest": index, "size": 1, "annotations": name}])
    assert store.resolve("many:1") == app.replace(reference="many:1", digest=index)
    store.tag(store.resolve("many:1"), "many:2")
    assert store.resolve("many:2").id == app.id


# ── the folder ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_document_is_as_the_specification_says(store, app, conformance):
    schemas = conformance / "schemas/image-spec/schema"

    def retrieve(uri: str) -> referencing.Resource:
        document = json.loads((schemas / uri.rsplit("/", 1)[-1]).read_text())
        return referencing.Resource.from_contents(document, referencing.jsonschema.DRAFT4)

    def check(name: str, document: object) -> None:
        schema = json.loads((schemas / name).read_text())
        jsonschema.Draft4Validator(schema, registry=referencing.Registry(retrieve=retrieve)).validate(document)

    store.tag(app, "app:2")
    images = Path(store.paths.images)
    check("image-layout-schema.json", json.loads((images / "oci-layout").read_text()))
    check("image-index-schema.json", json.loads((images / "index.json").read_text()))
    check("image-manifest-schema.json", json.loads(store.read_blob(app.digest)))
    check("config-schema.json", app.config)
    with pytest.raises(jsonschema.ValidationError):
        check("image-manifest-schema.json", {})


def test_configs_manifests_and_indexes_of_the_specifications_own_tests(conformance):
    """Whatever is valid there is read here, except digests of kinds that this store doesn't keep."""

    def reads(table: str, read):
        for case in json.loads((conformance / f"tables/{table}.json").read_text()):
            if not case["fail"] and "sha512:" not in case["doc"]:
                read(case["doc"].encode())

    def config(data: bytes) -> None:
        read_config(data, len(json.loads(data)["rootfs"]["diff_ids"]))

    reads("image_spec_config", config)
    reads("image_spec_manifest", read_manifest)
    reads("image_spec_imageindex", read_index)


def test_images_added_at_once_are_all_there(store, tmp_path, lower):
    def add(number: int) -> None:
        (work := tmp_path / str(number)).mkdir()
        put(store, work, lower, names=(f"app:{number}",))

    threads = [threading.Thread(target=add, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(image.reference for image in store.list()) == [f"app:{number}" for number in range(8)]


def test_a_layer_that_nobody_put_there_isnt_named(store, app):
    missing = Layer(DIGEST, 1, DIGEST)
    with pytest.raises(NotFound, match=DIGEST):
        put_image(store, [(missing, "")], {}, ["other"])
    known = Layer(app.layers[0].digest, app.layers[0].size, app.diff_ids[0])
    assert put_image(store, [(known, "")], {}, ["other"]).diff_ids == app.diff_ids[:1]


def test_a_state_folder_of_another(store, app, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path != store.paths.layers)  # root may write everywhere
    with pytest.raises(HostError, match="can't write to the state folder") as caught:
        store.tag(app, "x")
    assert "MINICONTAINER_ROOT" in caught.value.hint


def test_a_state_folder_that_cant_be(tmp_path, app):
    (tmp_path / "file").touch()
    store = ImageStore(Paths(state=str(tmp_path / "file/state")))
    with pytest.raises(HostError, match="can't write to the state folder"):
        store.tag(app, "x")


def test_reading_doesnt_import_what_writing_needs(store, app):
    store.lowers(app)
    script = f"""
import sys
from minicontainer.images import ImageStore
from minicontainer.paths import Paths
store = ImageStore(Paths(state={store.paths.state!r}))
store.lowers(store.resolve("app:1"))
ours = ("minicontainer.layers.", "minicontainer.images.")
print([name for name in sys.modules if name.startswith(ours) or name in ("tempfile", "re", "zlib")])
"""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"sys=__import__('sys');sys.path.append({os.getcwd()!r})\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(eval(result.stdout)) == {f"minicontainer.images.{name}" for name in ("image", "names", "store")}


def test_the_order_of_a_configs_fields_is_no_matter(store):
    config = {"os": "linux", "architecture": architecture(), "config": {"Cmd": ["a"], "User": "b"}}
    turned = {"config": {"User": "b", "Cmd": ["a"]}, **dict(reversed(config.items()))}
    assert put_image(store, [], config, []).digest == put_image(store, [], turned, []).digest


def test_a_blob_is_on_the_disk_before_anything_names_it(store, tmp_path, lower, monkeypatch):
    seen = []
    real = {name: getattr(os, name) for name in ("fsync", "rename")}
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(os.readlink(f"/proc/self/fd/{fd}")) or real["fsync"](fd))
    monkeypatch.setattr(os, "rename", lambda a, b: seen.append(b) or real["rename"](a, b))
    image = put(store, tmp_path, lower, names=("app",))
    order = [f"{tmp_path}/copy-0", *(store.blob_path(each) for each in (lower.digest, image.id, image.digest))]
    assert [each for each in seen if each in order] == order
    assert seen[-1].endswith("index.json")


def test_blobs_put_by_hand(store):
    digest = store.put_blob(b"{}")
    assert digest == sha256(b"{}")
    assert store.read_blob(digest) == b"{}"
    corrupt(store.blob_path(digest))
    with pytest.raises(DigestMismatch):
        store.read_blob(digest)
    for strange in ("sha256:../../index.json", "md5:" + "0" * 32, ""):
        with pytest.raises(IntegrityError):
            store.read_blob(strange)


def test_docker_manifests_are_read_too(store, tmp_path, lower):
    made = blob(tmp_path, b"".join((lower.path.read_bytes(),)), compress=False)
    assert made.digest == lower.digest
    config = {"architecture": architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": [lower.diff_id]}}
    put(store, tmp_path, lower, names=("ours",))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 1,
            "digest": store.put_blob(json.dumps(config).encode()),
        },
        "layers": [
            {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 1, "digest": lower.digest}
        ],
    }
    digest = store.put_blob(json.dumps(manifest).encode())
    with store.lock():
        store.write_entries([*store.entries(), {"mediaType": manifest["mediaType"], "digest": digest, "size": 1}])
    assert store.lowers(store.resolve(digest)) == store.lowers(store.resolve("ours"))
