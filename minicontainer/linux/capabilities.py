"""Capabilities: the pieces that root's power is cut into (capabilities(7), capset(2)).

Layer: linux.
"""

from __future__ import annotations

from . import _libc
from ._libc import addressof, check
from .processes import PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAPBSET_DROP, prctl

# In the order of their numbers, from 0 (linux/capability.h).
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
        " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
        " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL"
        " SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)

_VERSION_3 = 0x20080522
_EINVAL = 22


def capability_mask(names: tuple[str, ...]) -> int:
    """The set of the named capabilities, a bit each. Raises ValueError for a name that Linux doesn't have."""
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES.index(name)
    return mask


def drop_bounding_set(keep: tuple[str, ...]) -> None:
    """Take all capabilities but those to `keep` from the bounding set: no exec brings them back (PR_CAPBSET_DROP)."""
    kept = capability_mask(keep)
    for number in range(64):
        if not kept >> number & 1:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == _EINVAL:  # past the last one that this kernel knows
                    return
                raise


def clear_ambient_set() -> None:
    """Empty the ambient set (PR_CAP_AMBIENT_CLEAR_ALL)."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three sets of the calling thread, each a mask: capset(2)."""
    header = _libc.CapHeader(_VERSION_3, 0)
    data = (_libc.CapData * 2)()
    for index in range(2):
        shift = 32 * index
        data[index].effective = effective >> shift & 0xFFFFFFFF
        data[index].permitted = permitted >> shift & 0xFFFFFFFF
        data[index].inheritable = inheritable >> shift & 0xFFFFFFFF
    check(_libc.syscall(_libc.SYS_capset, addressof(header), addressof(data), None, None, None))
