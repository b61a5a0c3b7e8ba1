"""Put packed layers and a config together as an image of the store.

Layer: images (imports store, names, image, layers, and the bottom row). Off the hot path.

Everything slow has happened before: here the finished blobs are moved into the layout and named, all under the lock, so
that the garbage collector never sees a blob whose manifest is still to come.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..documents import render
from ..errors import InvalidArgument, NotFound
from ..layers import Layer
from ..reference import parse_reference
from .image import Image
from .names import name_entry
from .store import ImageStore

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def put_image(
    store: ImageStore, layers: Sequence[tuple[Layer, str]], config: Mapping[str, Any], references: Iterable[str]
) -> Image:
    """Make an image, and give it all names in `references`, which others may lose; without any it is nameless.

    `layers`: lowest first, each with the file that holds its blob, moved into the store, or "" where the blob is there
    already. `config`: the config document without its rootfs. Raises NotFound where a blob isn't there.
    """
    names = [parse_reference(reference) for reference in references]
    if any(name.digest for name in names):
        raise InvalidArgument("refusing to create a tag with a digest reference")
    with store.lock():
        blobs = [_adopt(store, layer, path) for layer, path in layers]
        rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer, _ in layers]}
        described = _write(store, CONFIG, {**config, "rootfs": rootfs})
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": blobs}
        entry = _write(store, MANIFEST, manifest)
        entries = store.entries()
        if not names and entry["digest"] not in {each["digest"] for each in entries}:
            entries.append(entry)
        for name in names:
            entries = name_entry(entries, entry, name)
        store.write_entries(entries)
        return store.read(entries[-1] if names else entry)


def _adopt(store: ImageStore, layer: Layer, path: str) -> dict[str, Any]:
    """Move a finished blob into the layout, where it is on the disk before anything names it. Its descriptor."""
    target = store.blob_path(layer.digest)
    if path:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(path, 0o644)
        os.rename(path, target)
    elif not os.path.exists(target):
        raise NotFound(f"blob {layer.digest} isn't in the store")
    return {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}


def _write(store: ImageStore, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
    data = render(document, sort_keys=True)
    return {"mediaType": media_type, "digest": store.write_blob(data), "size": len(data)}
