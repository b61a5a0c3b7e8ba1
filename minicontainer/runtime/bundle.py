"""The bundle of a container, as a folder: what `create` puts into it.

Layer: runtime.

    config.json                the specification
    upper/ work/ merged/       for the overlay: the container's changes, scratch space, where it is mounted
    hostname hosts resolv.conf what a container reads about its network, mounted into its /etc

Source: bundle.md of the OCI runtime specification; hosts(5), resolv.conf(5).
"""

from __future__ import annotations

import os

from ..documents import read_document, write_new_document
from ..errors import ContainerNotFound, IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def generated_files(network: str, hostname: str) -> dict[str, str]:
    """The files for /etc, name → content. In the host's network they say what the host's own say."""
    return {
        "hostname": f"{hostname}\n",
        "hosts": _read("/etc/hosts") if network == "host" else _HOSTS,
        "resolv.conf": _read("/etc/resolv.conf"),
    }


def fill(folder: str, spec: dict[str, Any], files: dict[str, str]) -> None:
    """Put into an empty folder what makes a bundle of it."""
    for name in ("upper", "work", "merged"):
        path = os.path.join(folder, name)
        os.mkdir(path)
        os.chmod(path, 0o755)  # whatever the caller's umask: what these allow is what any user inside may do
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", errors="surrogateescape") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
    write_new_document(os.path.join(folder, "config.json"), spec)


def read_spec(folder: str) -> dict[str, Any]:
    """The specification in a bundle. Raises ContainerNotFound, IntegrityError."""
    name = os.path.basename(folder)[:12]
    try:
        spec = read_document(os.path.join(folder, "config.json"))
        if _is_ours(spec):
            found: dict[str, Any] = spec
            return found
    except FileNotFoundError:
        if not os.path.exists(folder):
            raise ContainerNotFound(f"No such container: {name}") from None
    except IntegrityError:
        pass  # said below, with the hint
    raise IntegrityError(f"container {name} has a damaged config.json", hint=f"minicontainer rm -f {name}")


def _is_ours(spec: object) -> bool:
    """Whether a document has the parts that every specification of `make_spec` has, each of its kind."""
    parts = {"process": dict, "root": dict, "hostname": str, "mounts": list, "linux": dict}
    if not isinstance(spec, dict) or not all(isinstance(spec.get(key), kind) for key, kind in parts.items()):
        return False
    keys = {"args": list, "env": list, "cwd": str, "user": dict, "capabilities": dict}
    return all(isinstance(spec["process"].get(key), kind) for key, kind in keys.items())


def _read(path: str) -> str:
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
