"""The verbs for images: images, rmi, image bootstrap.

Layer: cli.
"""

from __future__ import annotations

import sys

from ..engine import Engine
from ..errors import Conflict, ImageNotFound, InvalidArgument
from ..images import Image
from . import table
from .containers import report
from .options import SWITCH, Flag, parse

IMAGES_FLAGS = (
    Flag("no-trunc", "", "Show IDs in full", SWITCH),
    Flag("quiet", "-q", "Show IDs only", SWITCH),
)
RMI_FLAGS = (Flag("force", "-f", "Remove the image though a container uses it", SWITCH),)
BOOTSTRAP_FLAGS = (Flag("suite", "", "Debian's release: bookworm, trixie …"),)
BOOTSTRAP_USAGE = "minicontainer image bootstrap [OPTIONS] busybox|debian"


def images(engine: Engine, arguments: list[str]) -> int:
    """List images."""
    values, rest = parse(IMAGES_FLAGS, arguments, "images")
    found = [image for image in engine.store.list() if not rest or rest[0] in (image.reference, _repository(image))]
    rows = []
    for image in found:
        identifier = image.id if values["no-trunc"] else image.id.removeprefix("sha256:")[:12]
        repository, tag = _repository(image), image.reference.rpartition(":")[2]
        age, size = table.age(image.created), table.size(image.size)
        rows.append((repository or "<none>", tag or "<none>", identifier, age, size))
    if values["quiet"]:
        for identifier in dict.fromkeys(row[2] for row in rows):
            print(identifier)
        return 0
    table.print_table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows)
    return 0


def _repository(image: Image) -> str:
    return image.reference.rpartition(":")[0]


def rmi(engine: Engine, arguments: list[str]) -> int:
    """Remove images: their names, and once nothing names or uses them, their contents."""
    values, rest = parse(RMI_FLAGS, arguments, "rmi")
    if not rest:
        raise InvalidArgument(
            '"minicontainer rmi" requires at least 1 argument.',
            hint="usage: minicontainer rmi [OPTIONS] IMAGE [IMAGE...]",
        )
    code = 0
    for name in rest:
        try:
            for line in engine.remove_image(name, force=bool(values["force"])):
                print(line, flush=True)
        except (ImageNotFound, Conflict) as error:
            report(error)
            code = 1
    return code


def image(engine: Engine, arguments: list[str]) -> int:
    """`image bootstrap FLAVOUR`: make a base image from this machine's packages."""
    from ..images.bootstrap import bootstrap  # not on the way of `run`

    values, rest = parse(BOOTSTRAP_FLAGS, arguments, "image bootstrap")
    if rest[:1] != ["bootstrap"]:
        raise InvalidArgument(
            f"unknown command: minicontainer image {' '.join(rest)}".rstrip(), hint=f"usage: {BOOTSTRAP_USAGE}"
        )
    if len(rest) != 2:
        raise InvalidArgument(
            '"minicontainer image bootstrap" requires exactly 1 argument.', hint=f"usage: {BOOTSTRAP_USAGE}"
        )
    made = bootstrap(
        engine.store, rest[1], suite=values["suite"], progress=lambda text: print(text, file=sys.stderr, flush=True)
    )
    print(made.reference)
    return 0
