"""Layers: the changes of a folder as a tar archive, and back (image-spec layer.md).

Layer: above the bottom row, below images. Off the hot path: a start whose layers are unpacked already never imports
the modules behind these names.

    folder ──pack──▶ tar + gzip blob, named by two digests ──unpack──▶ folder that overlay can take as a lower one
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .packing import Layer, pack, repack
    from .scratch import Scratch
    from .unpacking import unpack

__all__ = ["Layer", "Scratch", "pack", "repack", "unpack"]

_HOMES = {"Layer": "packing", "pack": "packing", "repack": "packing", "unpack": "unpacking"}


def __getattr__(name: str) -> object:
    """Import what is asked for, when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'scratch')}"), name)
