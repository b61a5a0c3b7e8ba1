"""The images on this machine: an OCI image layout, and beside it the layers as folders.

Layer: images (imports image, and the bottom row). On the hot path: what changes the store or unpacks a layer is
imported when it is called.

    STATE/images/oci-layout               {"imageLayoutVersion": "1.0.0"}
                 index.json               a descriptor for each name: digest of the manifest, and the annotation
                                          org.opencontainers.image.ref.name = busybox:latest (no annotation: no name)
                 blobs/sha256/<hex>       manifests, configs, layers
    STATE/layers/<hex of diff id>/        a layer unpacked, for overlay; read-only, shared
                 <hex of diff id>.size    the bytes of its files
    STATE/images.lock                     held by whoever changes any of this

The whole familiar name is the annotation, so that one layout holds many repositories: skopeo and umoci take all after
the first colon as the name (`skopeo inspect oci:STATE/images:busybox:latest`).

Rules: a manifest or config is hashed at every read, a layer when it is unpacked, before anything of it can be used.
index.json decides what is there: blobs come before the descriptor that names them and go after it, so that a crash
leaves nothing worse than a blob too many, which the next `remove` collects (assembly.py, removal.py).
"""

from __future__ import annotations

import errno
import os

from ..documents import Lock, digest_of, read_document, replace_file, write_document
from ..errors import (
    DigestMismatch,
    HostError,
    ImageNotFound,
    IntegrityError,
    InvalidArgument,
    MinicontainerError,
    NotFound,
)
from ..paths import Paths
from ..reference import is_id_prefix, parse_reference
from .image import Descriptor, Image, architecture, is_digest, read_config, read_index, read_manifest
from .names import is_named, name_entry, name_of, what_is_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping

    from .names import Entry

_LARGEST_DOCUMENT = 8 << 20


class ImageStore:
    """The images of one state folder. Reading needs no lock and makes no folder."""

    def __init__(self, paths: Paths, layer_limit: int | None = None) -> None:
        """`layer_limit`: the largest tar that a layer may be, in bytes (layers.unpack has the default)."""
        self.paths = paths
        self.layer_limit = layer_limit
        self._blobs = os.path.join(paths.images, "blobs", "sha256")
        self._index = os.path.join(paths.images, "index.json")

    # Reading

    def list(self) -> builtins.list[Image]:
        """Every image under every one of its names. Raises IntegrityError, naming the image, where one is damaged."""
        return [self.read(entry) for entry in self.entries()]

    def resolve(self, name: str) -> Image:
        """The image that a person means by `name`: a reference, an ID, or the beginning of one.

        Raises ImageNotFound, InvalidArgument for what is neither, IntegrityError where the image is damaged.
        """
        return self.read(self.find(name))

    def find(self, name: str) -> Entry:
        """The descriptor in index.json that `name` means, as `resolve` does, without reading the image."""
        entries = self.entries()
        prefix = name.removeprefix("sha256:")
        try:
            reference = parse_reference(name)
        except InvalidArgument:
            if not is_id_prefix(prefix):
                raise
            wanted = name
        else:
            wanted = reference.familiar()
            for entry in entries:
                if is_named(entry, reference):
                    return entry
        if is_id_prefix(prefix):
            found = {entry["digest"]: entry for entry in entries if self._has_id(entry, "sha256:" + prefix)}
            if len(found) > 1:
                raise InvalidArgument(f"image ID {name} is ambiguous", hint="give more of its digits")
            for entry in found.values():
                return entry
        raise ImageNotFound(f"Unable to find image '{wanted}' locally", hint=what_is_there(entries))

    def lowers(self, image: Image) -> tuple[str, ...]:
        """The folders of the unpacked layers, topmost first, as overlay's lowerdir takes them. Unpacks what is missing.

        A layer that comes twice is there once, where it is topmost: the lower one couldn't be seen. Raises
        IntegrityError where a layer's blob is damaged, HostError where it can't be unpacked.
        """
        diff_ids = tuple(dict.fromkeys(reversed(image.diff_ids)))
        folders = tuple(self.layer_folder(diff_id) for diff_id in diff_ids)
        if not all(os.path.isdir(folder) for folder in folders):
            blobs = dict(zip(image.diff_ids, image.layers, strict=True))
            for diff_id, folder in zip(diff_ids, folders, strict=True):
                self._unpack(image, blobs[diff_id].digest, diff_id, folder)
        return folders

    def read_blob(self, digest: str) -> bytes:
        """The content of a small blob, a manifest or config. Raises DigestMismatch if it isn't what it is named for."""
        try:
            with open(self.blob_path(digest), "rb") as file:
                if os.fstat(file.fileno()).st_size > _LARGEST_DOCUMENT:
                    raise IntegrityError(f"blob {digest} is too large for a document")
                data = file.read()
        except FileNotFoundError:
            raise NotFound(f"blob {digest} isn't in the store") from None
        seen = digest_of(data)
        if seen != digest:
            raise DigestMismatch(f"blob {digest} is damaged: its content is {seen}")
        return data

    def blob_path(self, digest: str) -> str:
        """Where the blob of this digest is, or would be. Raises IntegrityError for what isn't a SHA-256 digest."""
        if not is_digest(digest):
            raise IntegrityError(f"not a digest: {digest!r}")
        return os.path.join(self._blobs, digest[7:])

    def layer_folder(self, diff_id: str) -> str:
        """Where the layer with this content is unpacked, or would be."""
        return os.path.join(self.paths.layers, diff_id.removeprefix("sha256:"))

    def entries(self) -> builtins.list[Entry]:
        """The descriptors of index.json as they stand there; none in a store that isn't there yet."""
        try:
            with open(self._index, "rb") as file:
                return read_index(file.read())
        except FileNotFoundError:
            return []
        except IntegrityError as error:
            hint = "it lists the images: remove it, and make them again (minicontainer image bootstrap)"
            raise IntegrityError(f"{self._index}: {error.message}", hint) from None

    def read(self, entry: Entry) -> Image:
        """The image that a descriptor of index.json stands for. Raises IntegrityError or NotFound if it is damaged."""
        name = name_of(entry)
        try:
            image_id, layers = self.manifest(entry["digest"])
            config = read_config(self.read_blob(image_id), len(layers))
        except (IntegrityError, NotFound) as error:
            raise _damaged(name or entry["digest"], error) from None
        diff_ids = tuple(config["rootfs"]["diff_ids"])
        size = sum(map(self._size, diff_ids, layers))
        created = str(config.get("created") or "")
        return Image(name, entry["digest"], image_id, config, diff_ids, layers, size, created)

    def manifest(self, digest: str) -> tuple[str, tuple[Descriptor, ...]]:
        """The config's digest and the layers; of an image for many platforms, those for this machine's."""
        data = self.read_blob(digest)
        try:
            variants = read_index(data)
        except IntegrityError:
            return read_manifest(data)
        here = {"os": "linux", "architecture": architecture()}
        for variant in variants:
            if {**here, **(variant.get("platform") or {})}.items() >= here.items():
                return self.manifest(variant["digest"])
        raise IntegrityError(f"it has no variant for linux/{architecture()}")

    def _has_id(self, entry: Entry, prefix: str) -> bool:
        """Whether the ID of this image, or its manifest's digest, begins so. A damaged one has its digest alone."""
        if str(entry["digest"]).startswith(prefix):
            return True
        try:
            return self.manifest(entry["digest"])[0].startswith(prefix)
        except MinicontainerError:
            return False

    def _size(self, diff_id: str, layer: Descriptor) -> int:
        try:
            return int(read_document(self.layer_folder(diff_id) + ".size"))
        except (FileNotFoundError, IntegrityError):
            return layer.size

    def _unpack(self, image: Image, digest: str, diff_id: str, folder: str) -> None:
        from ..layers import unpack  # off the hot path: only the first start of an image comes here

        with self.lock():
            if os.path.isdir(folder):
                return
            try:
                with open(self.blob_path(digest), "rb") as blob:
                    unpack(blob, folder, digest, diff_id, self.layer_limit)
            except FileNotFoundError:
                missing = IntegrityError(f"its layer {digest} isn't in the store")
                raise _damaged(image.reference or image.id, missing) from None
            except IntegrityError as error:
                raise _damaged(image.reference or image.id, error) from None

    # Changing

    def lock(self) -> Lock:
        """The lock on everything that this store keeps, for a `with` block. It can't be taken twice by one process."""
        try:
            os.makedirs(self._blobs, exist_ok=True)
            os.makedirs(self.paths.layers, mode=0o700, exist_ok=True)
            if not os.access(self.paths.layers, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            hint = "be root, or set another state folder with --root or MINICONTAINER_ROOT"
            raise HostError(f"can't write to the state folder {self.paths.state}: {error.strerror}", hint) from None
        return Lock(self.paths.images + ".lock")

    def put_blob(self, data: bytes) -> str:
        """Keep a small blob, and return its digest. Unless a manifest names it soon, the next `remove` collects it."""
        with self.lock():
            return self.write_blob(data)

    def write_blob(self, data: bytes) -> str:
        """As `put_blob`, for who holds the lock. A damaged blob is healed by this."""
        digest = digest_of(data)
        replace_file(self.blob_path(digest), data)
        return digest

    def tag(self, image: Image, reference: str) -> None:
        """Give `image` one more name. An image that had it before stays, without."""
        wanted = parse_reference(reference)
        if wanted.digest:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        with self.lock():
            entries = self.entries()
            for entry in entries:
                if entry["digest"] == image.digest:
                    self.write_entries(name_entry(entries, entry, wanted))
                    return
        raise ImageNotFound(f"No such image: {image.reference or image.id}")

    def remove(
        self, name: str, force: bool = False, in_use: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None
    ) -> builtins.list[str]:
        """Take a name from an image, and remove the image with its last one. Returns Docker's lines. See removal.py.

        `in_use`: IDs of images with the ID of a container that uses each, or a function that gives them.
        """
        from .removal import remove  # off the hot path

        return remove(self, name, force, in_use)

    def write_entries(self, entries: builtins.list[Entry]) -> None:
        """Replace index.json, under the lock; make the layout if it isn't there."""
        layout = os.path.join(self.paths.images, "oci-layout")
        if not os.path.exists(layout):
            write_document(layout, {"imageLayoutVersion": "1.0.0"})
        write_document(self._index, {"schemaVersion": 2, "manifests": entries})


def _damaged(shown: str, error: IntegrityError | NotFound) -> MinicontainerError:
    """The same kind of error, with the image that it is about, and what to do."""
    return type(error)(f"image {shown} is damaged: {error.message}", f"remove it with: minicontainer rmi {shown}")
