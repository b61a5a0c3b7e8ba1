"""What an image is: two JSON documents, and the layers that they name.

Layer: images (imports the bottom row). On the hot path.

    index.json ──descriptor──▶ manifest ──descriptor──▶ config      Cmd, Env, …; rootfs.diff_ids, the layers' contents
                                   └─────descriptors──▶ layers      the same layers as compressed blobs

Everything is named by its digest, so whoever trusts the first name can trust all that follows (image-spec manifest.md,
config.md). Docker's media types have the same fields, and are read in the same way.
"""

from __future__ import annotations

import os

from .. import documents
from ..errors import IntegrityError
from ..reference import is_id_prefix, short_id
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Descriptor(Value):
    """A pointer to a blob: what it is, its digest, and its size in bytes (image-spec descriptor.md)."""

    media_type: str
    digest: str
    size: int


class Image(Value):
    """An image of the store, under one of its names.

    `reference`: the familiar form, busybox:latest, or "" without a name. `digest`: the manifest's. `id`: the config's
    digest, which Docker calls the image's ID. `config`: the whole config document; Cmd, Env and so on are in its
    "config". `diff_ids`, `layers`: the layers' contents and their blobs, lowest first. `size`: bytes of the files in
    the layers, as `docker images` has it; of a layer that was never unpacked here, of its blob. `created`: RFC 3339.
    """

    reference: str
    digest: str
    id: str
    config: dict[str, Any]
    diff_ids: tuple[str, ...]
    layers: tuple[Descriptor, ...]
    size: int
    created: str

    @property
    def short_id(self) -> str:
        """The first twelve digits of the ID."""
        return short_id(self.id)


def architecture() -> str:
    """This machine's architecture, in the words of images (Go's GOARCH)."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def is_digest(text: object) -> bool:
    """Whether this is a digest that the store can keep: sha256 in full."""
    return isinstance(text, str) and len(text) == 71 and text.startswith("sha256:") and is_id_prefix(text[7:])


def read_index(data: bytes) -> list[dict[str, Any]]:
    """The descriptors in an image index (image-spec image-index.md). Raises IntegrityError where it isn't one."""
    document = documents.parse(data)
    entries = document.get("manifests") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(each, dict) and is_digest(each.get("digest")) for each in entries
    ):
        raise IntegrityError("not an image index")
    return entries


def read_manifest(data: bytes) -> tuple[str, tuple[Descriptor, ...]]:
    """The config's digest and the layers' descriptors, lowest first. Raises IntegrityError where it is no manifest."""
    document = documents.parse(data)
    try:
        layers = tuple(Descriptor(each["mediaType"], each["digest"], int(each["size"])) for each in document["layers"])
        config = document["config"]["digest"]
    except (KeyError, TypeError, ValueError):
        raise IntegrityError("not an image manifest") from None
    if not all(map(is_digest, (config, *(layer.digest for layer in layers)))):
        raise IntegrityError("an image manifest with a digest that isn't one")
    return config, layers


def _is_process_config(config: object) -> bool:
    """Whether what the engine reads of `config` is of the kind that config.md of the image specification gives it."""
    if not isinstance(config, dict):
        return False
    lists = (config.get(key) or [] for key in ("Cmd", "Entrypoint", "Env"))
    words = (config.get(key) or "" for key in ("User", "WorkingDir", "StopSignal"))
    good = all(isinstance(value, list) and all(isinstance(word, str) for word in value) for value in lists)
    return good and all(isinstance(word, str) for word in words)


def read_config(data: bytes, layers: int) -> dict[str, Any]:
    """The config document, whose diff ids must be as many as there are layers. Raises IntegrityError otherwise."""
    document = documents.parse(data)
    try:
        diff_ids = document["rootfs"]["diff_ids"]
        good = all(map(is_digest, diff_ids)) and _is_process_config(document.get("config") or {})
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good or len(diff_ids) != layers:
        raise IntegrityError("not an image config, or one for other layers")
    return dict(document)
