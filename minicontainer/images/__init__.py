"""Images: a configuration and a stack of layers, kept in an OCI image layout that other tools read in place.

Layer: above layers, below rootfs and runtime. This module is on the hot path: what it imports only reads the store.
Base images are made in `images.bootstrap`, which is imported by those who make some.
"""

from __future__ import annotations

from .image import Descriptor, Image
from .store import ImageStore

__all__ = ["Descriptor", "Image", "ImageStore"]
