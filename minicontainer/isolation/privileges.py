"""What a process may do: capabilities, user, no_new_privs (capabilities(7)).

Layer: isolation.

These come last, when everything that needs privilege is done. Their order matters: taking capabilities out of the
bounding set needs CAP_SETPCAP, changing the user needs CAP_SETUID, and root's exec at the end gives the process
exactly what the bounding set still holds.
"""

from __future__ import annotations

import os

from .. import linux
from ..step import CHILD, Site, Step

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What root in a container may do by default: the fourteen that Docker leaves."""

_SHELL = "$host usr/bin/setpriv {} $host bin/bash --norc"


class LimitCapabilities(Step):
    """Drop every capability but these from the bounding set: not even root, or a setuid program, gets them back."""

    keep: tuple[str, ...] = DEFAULT_CAPABILITIES

    side = CHILD
    manual = "capabilities(7), setpriv(1)"

    def describe(self) -> str:
        kept = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in self.keep)
        return "exec " + _SHELL.format(f"--bounding-set=-all{kept} --inh-caps=-all")

    def execute(self, site: Site) -> None:
        linux.clear_ambient_set()
        linux.drop_bounding_set(self.keep)


class NoNewPrivileges(Step):
    """From here on no exec can gain a privilege, be the program setuid or not (`--security-opt no-new-privileges`)."""

    side = CHILD
    manual = "PR_SET_NO_NEW_PRIVS(2const), setpriv(1)"

    def describe(self) -> str:
        return "exec " + _SHELL.format("--no-new-privs")

    def execute(self, site: Site) -> None:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


class SetUser(Step):
    """Become this user, with this group and these supplementary groups and no others."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    may_set_groups: bool = True

    side = CHILD
    manual = "credentials(7), setpriv(1)"

    def describe(self) -> str:
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        groups = groups if self.may_set_groups else "--keep-groups"
        return "exec " + _SHELL.format(f"--reuid={self.uid} --regid={self.gid} {groups}")

    def execute(self, site: Site) -> None:
        if self.may_set_groups:  # not in a user namespace that a normal user made: user_namespaces(7)
            os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
