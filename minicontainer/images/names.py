"""The names of images: an annotation on the descriptors of index.json.

Layer: images (imports the bottom row). On the hot path. Pure: from descriptors to descriptors.

    {"digest": "sha256:…", …, "annotations": {"org.opencontainers.image.ref.name": "busybox:latest"}}

An image has a descriptor for each of its names, and one without the annotation if it has none. The whole familiar
reference is the name, so that one layout holds many repositories; what another program wrote ("latest", "3.12") is
completed as what a person types.
"""

from __future__ import annotations

from ..errors import InvalidArgument
from ..reference import Reference, parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Entry = dict[str, "Any"]
"""A descriptor as it stands in a document."""

REF_NAME = "org.opencontainers.image.ref.name"


def name_of(entry: Entry) -> str:
    """The name of a descriptor in familiar form, "" if it has none; as it stands where it isn't a reference."""
    name = str((entry.get("annotations") or {}).get(REF_NAME, ""))
    try:
        return parse_reference(name).familiar() if name else ""
    except InvalidArgument:
        return name


def is_named(entry: Entry, reference: Reference) -> bool:
    """Whether `reference` means this descriptor: by name and tag or, where there is one, by name and digest."""
    name = name_of(entry)
    if not reference.digest:
        return name == reference.familiar()
    try:
        return bool(entry["digest"] == reference.digest) and parse_reference(name).name == reference.name
    except InvalidArgument:
        return False


def name_entry(entries: list[Entry], entry: Entry, reference: Reference) -> list[Entry]:
    """`entries` with `reference` meaning `entry` alone: who had the name loses it, and stays if it has no other."""
    name = reference.familiar()
    kept = [each if name_of(each) != name else nameless(each) for each in entries]
    named = {each["digest"] for each in kept if name_of(each)} | {entry["digest"]}
    kept = [each for each in kept if name_of(each) or each["digest"] not in named]
    return [*kept, {**entry, "annotations": {**(entry.get("annotations") or {}), REF_NAME: name}}]


def nameless(entry: Entry) -> Entry:
    """The descriptor without its name."""
    annotations = {key: value for key, value in (entry.get("annotations") or {}).items() if key != REF_NAME}
    bare = {key: value for key, value in entry.items() if key != "annotations"}
    return {**bare, "annotations": annotations} if annotations else bare


def what_is_there(entries: list[Entry]) -> str:
    """The hint for who asked for an image that isn't here."""
    names = sorted(filter(None, map(name_of, entries)))
    here = f"the images here: {', '.join(names)}" if names else "there is no image here yet"
    return f"{here}; to make one: minicontainer image bootstrap busybox"
