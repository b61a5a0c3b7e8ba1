"""Users and groups by name, as the image's own files have them, and what a damaged or a hostile file can't do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument
from minicontainer.rootfs import Account, look_up_account

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:An app:/srv/app:/bin/sh\nnohome:x:7:7:::\n"
GROUP = "root:x:0:\nstaff:x:50:app,root\napp:x:1001:\nvideo:x:44:app\n"


def layer(folder: Path, passwd: str | bytes | None = PASSWD, group: str | bytes | None = GROUP) -> str:
    """A layer with these files in its /etc; None leaves one out."""
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    for name, content in (("passwd", passwd), ("group", group)):
        if content is not None:
            (folder / "etc" / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, (0, 50), "/root")),
        ("root", Account(0, 0, (0, 50), "/root")),
        ("0", Account(0, 0, (0, 50), "/root")),
        ("app", Account(1000, 1001, (44, 50, 1001), "/srv/app")),
        ("1000", Account(1000, 1001, (44, 50, 1001), "/srv/app")),
        ("nohome", Account(7, 7, (7,), "/")),
        ("2000", Account(2000, 0, (0,), "/")),
        ("app:staff", Account(1000, 50, (50,), "/srv/app")),
        ("app:77", Account(1000, 77, (77,), "/srv/app")),
        ("2000:staff", Account(2000, 50, (50,), "/")),
        (":staff", Account(0, 50, (50,), "/root")),
        ("4294967294", Account(4294967294, 0, (0,), "/")),
    ],
)
def test_users_by_name_and_number(tmp_path: Path, user: str, account: Account) -> None:
    assert look_up_account(user, (layer(tmp_path),)) == account


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nobodies", "unable to find group nobodies: no matching entries in group file"),
        ("-1", "unable to find user -1"),
        ("٣", "unable to find user ٣"),
        ("4294967295", "uids and gids must be in range 0-4294967294"),
        ("9" * 20, "uids and gids must be in range"),
        ("9" * 5000, "uids and gids must be in range"),
        ("app:4294967295", "uids and gids must be in range"),
    ],
)
def test_who_is_not_there(tmp_path: Path, user: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        look_up_account(user, (layer(tmp_path),))
    assert caught.value.message.startswith(message)


def test_an_image_without_the_files_has_numbers_only(tmp_path: Path) -> None:
    assert look_up_account("", (str(tmp_path),)) == Account(groups=(0,))
    assert look_up_account("1000:5", (str(tmp_path),)) == Account(1000, 5, (5,))
    with pytest.raises(InvalidArgument, match="unable to find user app") as caught:
        look_up_account("app", (str(tmp_path),))
    assert "--user 1000" in caught.value.hint


def test_the_topmost_layer_decides(tmp_path: Path) -> None:
    upper = layer(tmp_path / "upper", "app:x:5:5::/:\n", None)
    lower = layer(tmp_path / "lower")
    assert look_up_account("app", (upper, lower)) == Account(5, 5, (5, 44, 50), "/")


def test_a_deleted_file_stays_deleted(tmp_path: Path) -> None:
    upper, lower = layer(tmp_path / "upper", None, None), layer(tmp_path / "lower")
    os.mknod(f"{upper}/etc/passwd", 0o20000, os.makedev(0, 0))  # overlayfs's whiteout, which every user may make
    with pytest.raises(InvalidArgument, match="unable to find user app"):
        look_up_account("app", (upper, lower))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd", "/proc/self/root/etc/passwd"])
def test_a_link_never_leads_to_the_hosts_file(tmp_path: Path, target: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to(target)
    with pytest.raises(InvalidArgument):
        look_up_account("root", (str(tmp_path),))


def test_a_link_inside_the_image_is_followed(tmp_path: Path) -> None:
    layer(tmp_path / "usr", PASSWD, None)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/usr/etc/passwd")
    assert look_up_account("app", (str(tmp_path),)).uid == 1000


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_file_is_passed_over_and_no_descriptor_stays_open(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "odd/etc/passwd"
    if kind == "folder":
        odd.mkdir(parents=True)
    else:
        odd.parent.mkdir(parents=True)
        os.mkfifo(odd)
    before = os.listdir("/proc/self/fd")
    assert look_up_account("7", (str(tmp_path / "odd"),)).uid == 7
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    "passwd",
    [
        "app\n",
        "app:x\n",
        "app:x:1000:1000:gecos\n",
        "\n\n:::\n",
        b"caf\xe9:x:9:9::/home/caf\xe9:\n",
        "#app:x:1000:1000::/:\n",
        "+::::::\n",
    ],
)
def test_rows_that_are_no_accounts_are_passed_over(tmp_path: Path, passwd: str | bytes) -> None:
    good = passwd.encode() if isinstance(passwd, str) else passwd
    assert look_up_account("app", (layer(tmp_path, good + PASSWD.encode()),)).uid == 1000


# setresuid(2) takes -1 and 4294967295 for "no change": a process that was to be `app` would stay root.
# BUG: int() refuses more than 4300 digits: a traceback.
@pytest.mark.parametrize("uid", ["", "x", "-1", "4294967295", "9" * 20, "9" * 5000, "1_0", " 5"])
def test_a_row_with_a_wrong_user_number_is_no_account(tmp_path: Path, uid: str) -> None:
    with pytest.raises(InvalidArgument):
        look_up_account("app", (layer(tmp_path, f"app:x:{uid}:5::/:\n"),))


@pytest.mark.parametrize("gid", ["", "x", "-1", "4294967295"])
def test_a_row_with_a_wrong_group_number_is_no_account(tmp_path: Path, gid: str) -> None:
    with pytest.raises(InvalidArgument):
        look_up_account("app", (layer(tmp_path, f"app:x:5:{gid}::/:\n"),))


@pytest.mark.parametrize("gid", ["", "x", "-1", "4294967295"])
def test_a_group_with_a_wrong_number_has_no_members(tmp_path: Path, gid: str) -> None:
    folder = layer(tmp_path, PASSWD, f"broken:x:{gid}:app\n{GROUP}")
    assert look_up_account("app", (folder,)).groups == (44, 50, 1001)
    with pytest.raises(InvalidArgument):
        look_up_account("app:broken", (folder,))


def test_a_number_is_never_a_name(tmp_path: Path) -> None:
    """CVE-2016-3697: an image makes root of `--user 1000` by a row for a user who is called 1000."""
    folder = layer(tmp_path, "1000:x:0:0::/root:/bin/sh\n", "1000:x:0:\n")
    assert look_up_account("1000", (folder,)).uid == 1000
    assert look_up_account("1000:1000", (folder,)).gid == 1000


def test_nobody_said_means_root_whatever_the_rows_are_called(tmp_path: Path) -> None:
    assert look_up_account("", (layer(tmp_path, f"::7:7::/x:/bin/sh\n{PASSWD}"),)).uid == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    passwd=st.lists(
        st.lists(st.sampled_from(["", "app", "root", "0", "7", "-1", "x", "é", "1000"]), max_size=8), max_size=4
    ),
    user=st.sampled_from(["", "app", "0", "7", "app:7", ":x", "é"]),
)
def test_no_file_can_break_the_lookup(tmp_path: Path, passwd: list[list[str]], user: str) -> None:
    text = "\n".join(":".join(row) for row in passwd)
    try:
        account = look_up_account(user, (layer(tmp_path, text, text),))
    except InvalidArgument:
        return
    assert all(0 <= number < 2**32 - 1 for number in (account.uid, account.gid, *account.groups))
