"""Take names from images, remove images, and collect what nothing reaches any more.

Layer: images (imports image, names, layers, and the bottom row). Off the hot path; called through `ImageStore.remove`.

    index.json ──▶ manifests ──▶ configs, layer blobs      reached: stays
                                 diff ids ──▶ layers/…      all else in blobs/ and layers/: goes

The order is what makes a crash harmless: first the descriptor, by one rename, then what it alone reached. What a killed
`remove` didn't get to, the next one collects, together with temporary files of the dead. Programs of others that are
writing into the layout at the same moment don't know our lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from .. import documents
from ..errors import Conflict, IntegrityError, InvalidArgument, MinicontainerError, NotFound
from ..layers import Scratch
from ..reference import is_id_prefix, parse_reference, short_id
from .image import read_index, read_manifest
from .names import Entry, is_named, name_of, nameless

if TYPE_CHECKING:
    from .store import ImageStore


def remove(
    store: ImageStore, name: str, force: bool, in_use: Mapping[str, str] | Callable[[], Mapping[str, str]] | None
) -> list[str]:
    """Remove what `name` means: by a reference that name, and the image if it was its last; by an ID the image.

    Returns "Untagged: …" and "Deleted: …" lines as `docker rmi` prints them, with the layers' diff ids. Raises Conflict
    where Docker does, unless `force`. An image that a container uses only loses its names, even by force: its layers
    are under the container's feet. A damaged image can be removed too.
    """
    with store.lock():
        used = in_use() if callable(in_use) else in_use or {}
        entries, entry = store.entries(), store.find(name)
        same = [each for each in entries if each["digest"] == entry["digest"]]
        image_id, diff_ids = _contents(store, entry)
        by_name = _is_meant(name, entry)
        if not force:
            _refuse(name if by_name else "", same, image_id, used.get(image_id, ""))
        gone = [entry] if by_name else same
        lines = [f"Untagged: {name_of(each)}" for each in gone if name_of(each)]
        left = [each for each in entries if each not in gone]
        last = len(gone) == len(same)
        store.write_entries([*left, nameless(entry)] if last and image_id in used else left)
        if not last or image_id in used:
            return lines
        collected = collect(store, used)
        return [*lines, f"Deleted: {image_id}", *(f"Deleted: {each}" for each in diff_ids if each in collected)]


def _refuse(name: str, same: list[Entry], image_id: str, container: str) -> None:
    """Raise Conflict, in Docker's words, where this needs force. `name` is empty for who gave an ID."""
    several = len([each for each in same if name_of(each)]) > 1
    if name and container and not several:
        raise Conflict(
            f'conflict: unable to remove repository reference "{name}" (must force) - '
            f"container {short_id(container)} is using its referenced image {short_id(image_id)}",
            hint=f"remove the container first (minicontainer rm {short_id(container)}), or force it: rmi -f",
        )
    if not name and (several or container):
        reason = "referenced in multiple repositories" if several else f"being used by container {short_id(container)}"
        raise Conflict(
            f"conflict: unable to delete {short_id(image_id)} (must be forced) - image is {reason}",
            hint=f"minicontainer rmi -f {short_id(image_id)}",
        )


def _is_meant(name: str, entry: Entry) -> bool:
    """Whether `name` is a name of this descriptor, and not its image's ID."""
    try:
        return is_named(entry, parse_reference(name))
    except InvalidArgument:
        return False


def _contents(store: ImageStore, entry: Entry) -> tuple[str, list[str]]:
    """The image's ID, or of a damaged one the manifest's digest, and its layers' diff ids, topmost first."""
    image_id = str(entry["digest"])
    with contextlib.suppress(MinicontainerError):
        image_id = store.manifest(image_id)[0]
        return image_id, list(dict.fromkeys(reversed(_diff_ids(store, image_id))))
    return image_id, []


def _diff_ids(store: ImageStore, config: str) -> list[str]:
    """The layers' contents that a config names; none if it isn't there, or isn't an image's. Raises where damaged."""
    with contextlib.suppress(NotFound, KeyError, TypeError):
        return [str(each) for each in documents.parse(store.read_blob(config))["rootfs"]["diff_ids"]]
    return []


def collect(store: ImageStore, used: Mapping[str, str]) -> set[str]:
    """Remove every blob and unpacked layer that neither index.json nor an image in use reaches; under the lock.

    Returns the diff ids of what went. Where a document is damaged nobody can say what it reached: then nothing goes.
    """
    configs, blobs = set(used), set(used)
    try:
        for entry in store.entries():
            _reach(store, entry["digest"], configs, blobs)
        diff_ids = {diff_id for config in configs for diff_id in _diff_ids(store, config)}
    except MinicontainerError:
        return set()
    gone = set()
    with Scratch(store.paths.layers) as scratch:
        for path, identity in _kept(store):
            if identity in (blobs if path.startswith(store.paths.images) else diff_ids):
                continue
            if os.path.isdir(path):
                os.rename(path, os.path.join(scratch.path, identity[7:]))
                gone.add(identity)
            else:
                os.unlink(path)
    return gone


def _reach(store: ImageStore, digest: str, configs: set[str], blobs: set[str]) -> None:
    """Add what the manifest or index `digest` leads to. Parts of an index may be missing, as after a partial pull."""
    data = store.read_blob(digest)
    blobs.add(digest)
    try:
        variants = read_index(data)
    except IntegrityError:
        config, layers = read_manifest(data)
        configs.add(config)
        blobs.update((config, *(layer.digest for layer in layers)))
        return
    for variant in variants:
        with contextlib.suppress(NotFound):
            _reach(store, variant["digest"], configs, blobs)


def _kept(store: ImageStore) -> Iterator[tuple[str, str]]:
    """What the store has on the disk, blobs and layers, with the digest that each belongs to; "" for a dead one's."""
    blobs = os.path.dirname(store.blob_path("sha256:" + "0" * 64))
    for folder in (store.paths.images, blobs, store.paths.layers):
        for name in os.listdir(folder):
            if name.endswith(".tmp"):
                yield os.path.join(folder, name), ""
            elif len(name) >= 64 and is_id_prefix(name.removesuffix(".size")):
                yield os.path.join(folder, name), "sha256:" + name.removesuffix(".size")
