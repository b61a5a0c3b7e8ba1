"""Users and groups by name, as the image's own /etc/passwd and /etc/group have them.

Layer: rootfs. Reads the layers directly, topmost first: no mount and no privilege is needed.

    USER[:GROUP], each a name or a number; "" is root

Format of the files: passwd(5), group(5).
"""

from __future__ import annotations

import os

from .. import linux
from ..errors import InvalidArgument
from ..values import Value

_LARGEST_ID = 0xFFFFFFFF - 1


class Account(Value):
    """Who a process runs as: numbers, and the home folder for $HOME."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def _read(lowers: tuple[str, ...], path: str) -> list[list[str]]:
    """The colon-separated rows of a file, from the topmost layer that has it; no link leads out of the layer."""
    for layer in lowers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with open(linux.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                text = file.read(1 << 20).decode("utf-8", "surrogateescape")
        except OSError:  # not in this layer, or not a file that can be read: the next one decides
            continue
        finally:
            os.close(root)
        return [line.split(":") for line in text.splitlines()]
    return []


def _number(word: str) -> int | None:
    if not (word.isascii() and word.isdigit()):
        return None
    if int(word) > _LARGEST_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{_LARGEST_ID}")
    return int(word)


def look_up_account(user: str, lowers: tuple[str, ...]) -> Account:
    """Resolve `--user` or the image's User. Raises InvalidArgument for a name that the image doesn't have.

    A numeric user needs no entry; its group is then 0. Without an explicit group, the supplementary groups are those
    that list the user, as Docker does it.
    """
    name, _, group = user.partition(":")
    number = 0 if not name else _number(name)
    account, known_as = Account(uid=number or 0), ""
    for row in _read(lowers, "etc/passwd"):
        if len(row) >= 6 and (row[0] == name or (number is not None and row[2] == str(number))):
            account = Account(int(row[2]), int(row[3]), (), row[5] or "/")
            known_as = row[0]
            break
    else:
        if number is None:
            raise InvalidArgument(
                f"unable to find user {name}: no matching entries in passwd file",
                hint="a numeric user, such as --user 1000, needs no entry in the image",
            )
    rows = _read(lowers, "etc/group")
    if group:
        gid = _number(group)
        for row in rows:
            if len(row) >= 3 and row[0] == group:
                gid = int(row[2])
                break
        if gid is None:
            raise InvalidArgument(f"unable to find group {group}: no matching entries in group file")
        return account.replace(gid=gid)
    members = (row for row in rows if len(row) >= 4 and known_as and known_as in row[3].split(","))
    return account.replace(groups=tuple(sorted({int(row[2]) for row in members})))
