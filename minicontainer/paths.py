"""Where things are: the state folder and the two kernel file systems, all of them arguments.

Layer: bottom (imports nothing of the package but values).

    STATE/                          /var/lib/minicontainer, or --root, or MINICONTAINER_ROOT
      images/                       an OCI image layout: oci-layout, index.json, blobs/sha256/…
      layers/<hex of diff id>/      unpacked once, shared read-only by every container
      containers/<id>/              an OCI bundle: config.json, state.json, upper/ work/ merged/, log.jsonl
      names/<name>                  a symbolic link to its container
      *.lock                        held for moments by whoever changes images or names
      lab/                          guest kernels and disks of the virtual machines
"""

from __future__ import annotations

import os

from .values import Value


class Paths(Value):
    """The roots that the engine works on. In unit tests a temporary folder stands in for each."""

    state: str
    cgroup: str = "/sys/fs/cgroup"
    proc: str = "/proc"

    @classmethod
    def default(cls, state: str | None = None) -> Paths:
        """The roots of this user: MINICONTAINER_ROOT, else root's or the user's own data folder (XDG)."""
        chosen = state or os.environ.get("MINICONTAINER_ROOT")
        if not chosen and os.geteuid() == 0:
            chosen = "/var/lib/minicontainer"
        elif not chosen:
            data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
            chosen = os.path.join(data, "minicontainer")
        return cls(state=os.path.abspath(chosen))

    @property
    def images(self) -> str:
        return os.path.join(self.state, "images")

    @property
    def layers(self) -> str:
        return os.path.join(self.state, "layers")

    @property
    def containers(self) -> str:
        return os.path.join(self.state, "containers")

    @property
    def lab(self) -> str:
        return os.path.join(self.state, "lab")
