"""Users and groups by name, as the image's own /etc/passwd and /etc/group have them.

Layer: rootfs. Reads the layers directly, topmost first: no mount and no privilege is needed.

    USER[:GROUP], each a name or a number; "" is root

Format of the files: passwd(5), group(5).
"""

from __future__ import annotations

import os
import stat

from .. import linux
from ..errors import InvalidArgument
from ..values import Value

_LARGEST_ID = 0xFFFFFFFF - 1
_MOST_DIGITS = 10


class Account(Value):
    """Who a process runs as: numbers, and the home folder for $HOME."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def _read(lowers: tuple[str, ...], path: str, columns: int) -> list[list[str]]:
    """The rows of a file, from the topmost layer that has it or has deleted it; no link leads out of the layer.

    Rows with too few columns, or without proper numbers in the third (and, in passwd, the fourth), are passed over.
    """
    for layer in lowers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = linux.openat2(root, path, os.O_PATH)
        except OSError:  # not in this layer: the next one decides
            continue
        finally:
            os.close(root)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # a whiteout (overlayfs), or no file that has rows
                return []
            with open(f"/proc/self/fd/{descriptor}", "rb") as file:
                text = file.read(1 << 20).decode("utf-8", "surrogateescape")
        finally:
            os.close(descriptor)
        rows = [line.split(":") for line in text.splitlines()]
        numbers = slice(2, 4) if columns > 4 else slice(2, 3)
        return [row for row in rows if len(row) >= columns and all(map(_is_id, row[numbers]))]
    return []


def _is_id(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS and int(word) <= _LARGEST_ID


def _number(word: str) -> int | None:
    if not (word.isascii() and word.isdecimal()):
        return None
    if not _is_id(word):
        raise InvalidArgument(
            f"uids and gids must be in range 0-{_LARGEST_ID}", hint="--user takes USER[:GROUP], names or numbers"
        )
    return int(word)


def look_up_account(user: str, lowers: tuple[str, ...]) -> Account:
    """Resolve `--user` or the image's User. Raises InvalidArgument for a name that the image doesn't have.

    A numeric user needs no entry; its group is then 0. Without an explicit group, the supplementary groups are those
    that list the user. The group itself is always among them, as with Docker, so that no setgid program can shed it.
    """
    name, _, group = user.partition(":")
    number = 0 if not name else _number(name)
    account, known_as = Account(uid=number or 0), ""
    for row in _read(lowers, "etc/passwd", columns=6):
        if row[0] == name if number is None else int(row[2]) == number:
            account = Account(int(row[2]), int(row[3]), (), row[5] or "/")
            known_as = row[0]
            break
    else:
        if number is None:
            raise InvalidArgument(
                f"unable to find user {name}: no matching entries in passwd file",
                hint="a numeric user, such as --user 1000, needs no entry in the image",
            )
    rows = _read(lowers, "etc/group", columns=3)
    if group:
        gid = _number(group)
        if gid is None:
            gid = next((int(row[2]) for row in rows if row[0] == group), None)
        if gid is None:
            raise InvalidArgument(
                f"unable to find group {group}: no matching entries in group file",
                hint="a numeric group, such as --user 1000:1000, needs no entry in the image",
            )
        return account.replace(gid=gid, groups=(gid,))
    members = {int(row[2]) for row in rows if len(row) >= 4 and known_as and known_as in row[3].split(",")}
    return account.replace(groups=tuple(sorted(members | {account.gid})))
