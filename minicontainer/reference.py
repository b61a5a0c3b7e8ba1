"""Names of images and containers, as Docker reads them.

Layer: bottom (imports nothing of the package but values and errors).

    reference  = [registry "/"] repository [":" tag] ["@" digest]       busybox
    registry   = host [":" port] | "[" IPv6 "]" [":" port]              docker.io/library/busybox:latest
    repository = component {"/" component}                              localhost:5000/team/app:v1
    component  = runs of a-z 0-9, joined by "." "_" "__" or dashes      debian@sha256:1a3f…
    tag        = [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
    digest     = ("sha256" | "sha384" | "sha512") ":" lower-case hex

What a person leaves out is filled in: the registry docker.io, its folder library/, the tag latest. The first part is
a registry only if it has a dot, a colon or a capital letter, or is `localhost`; otherwise it belongs to the repository.
Source: github.com/distribution/reference (grammar in reference.go, filling in in normalize.go).
"""

from __future__ import annotations

from .errors import InvalidArgument
from .values import Value

REGISTRY = "docker.io"
OFFICIAL = "library/"
TAG = "latest"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | frozenset("_.-")
_HEX = frozenset("0123456789abcdef")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(Value):
    """A complete name of an image. `tag` and `digest` may be empty, but not both."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository: docker.io/library/busybox."""
        return f"{self.registry}/{self.repository}"

    def familiar(self) -> str:
        """The short form that people type and tables show: busybox:latest. Parsing it gives this reference again."""
        full = str(self)
        folder, slash, rest = self.repository.partition("/")
        if self.registry != REGISTRY or (slash and _is_registry(folder)):
            return full
        official = folder + slash == OFFICIAL and "/" not in rest
        return full.removeprefix(REGISTRY + "/" + (OFFICIAL if official else ""))

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read an image's name as a person types it, and fill in what is missing.

    Raises InvalidArgument, in Docker's words, where it can't be one.
    """
    if len(text) == 64 and _HEX.issuperset(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    registry, remainder = _split_registry(text)
    rest, at, digest = remainder.partition("@")
    repository, colon, tag = rest.partition(":")
    if repository.lower() != repository:
        lower = repository.removeprefix(OFFICIAL).lower()
        hint = f"write it as {lower}" if all(_is_component(part) for part in lower.split("/")) else ""
        raise InvalidArgument(f"invalid reference format: repository name ({repository}) must be lowercase", hint)
    good = _is_host(registry) and all(_is_component(part) for part in repository.split("/"))
    if not good or (colon and not _is_tag(tag)) or (at and not _has_digest_form(digest)):
        hint = "a name is like busybox, debian:bookworm or host:5000/team/app:v1"
        raise InvalidArgument(f"invalid reference format: {text!r}", hint)
    if len(repository) > 255:
        raise InvalidArgument("repository name must not be more than 255 characters")
    if at:
        _check_digest(digest)
    return Reference(registry, repository, tag or ("" if at else TAG), digest)


def is_container_name(text: str) -> bool:
    """Whether a container may be called so: 2 to 255 characters of `A-Za-z0-9_.-`, no mark as the first."""
    return 1 < len(text) <= 255 and text[0] in _ALNUM and _WORD.issuperset(text)


def is_id_prefix(text: str) -> bool:
    """Whether `text` may stand for the beginning of an ID: 1 to 64 lower-case hexadecimal digits."""
    return 0 < len(text) <= 64 and _HEX.issuperset(text)


def short_id(identity: str) -> str:
    """The first twelve digits of an ID or digest, as Docker's tables show it."""
    return identity.removeprefix("sha256:")[:12]


def _is_registry(first: str) -> bool:
    """Whether the part before the first slash names a registry, and not a folder of docker.io."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first


def _split_registry(text: str) -> tuple[str, str]:
    """Cut the registry off, or fill it in."""
    first, slash, rest = text.partition("/")
    registry, remainder = (first, rest) if slash and _is_registry(first) else (REGISTRY, text)
    if registry == "index.docker.io":  # what docker.io was called once
        registry = REGISTRY
    if registry == REGISTRY and "/" not in remainder:
        remainder = OFFICIAL + remainder
    return registry, remainder


def _is_host(text: str) -> bool:
    """host, host:port, [IPv6] or [IPv6]:port."""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        good = bracket != "" != address and not address.strip("0123456789abcdefABCDEF:")
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
        labels = host.split(".")
        good = all(label and label[0] != "-" != label[-1] and (_ALNUM | {"-"}).issuperset(label) for label in labels)
    return good and (not colon or (colon == ":" and port.isascii() and port.isdigit()))


def _is_component(text: str) -> bool:
    """Lower-case letters and digits, with one `.`, one or two `_`, or any number of `-` between two of them."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    between = ""
    for character in text:
        if character not in _LOWER:
            between += character
        elif between not in ("", ".", "_", "__") and between.strip("-"):
            return False
        else:
            between = ""
    return True


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 128 and text[0] not in ".-" and _WORD.issuperset(text)


def _has_digest_form(text: str) -> bool:
    """algorithm:hex with at least 32 digits, of whatever algorithm."""
    algorithm, _, value = text.partition(":")
    for separator in "-_+":
        algorithm = algorithm.replace(separator, ".")
    good = all(part and part[0].isalpha() and _ALNUM.issuperset(part) for part in algorithm.split("."))
    return good and len(value) >= 32 and _HEX.issuperset(value.lower())


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm not in _DIGEST_LENGTHS:
        raise InvalidArgument(f"unsupported digest algorithm: {digest!r}")
    if len(value) != _DIGEST_LENGTHS[algorithm]:
        raise InvalidArgument(f"invalid checksum digest length: {digest!r}")
    if not _HEX.issuperset(value):
        raise InvalidArgument(f"invalid checksum digest format: {digest!r}")
