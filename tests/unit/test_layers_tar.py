"""The tar format, against tarfile as reader and as writer, and against damage."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_files import archive, folder, hardlink, member, symlink

from minicontainer.errors import IntegrityError
from minicontainer.layers import tar

LENGTHS = [1, 2, 40, 99, 100, 101, 154, 155, 156, 256, 300]
names = st.builds(
    lambda letter, lengths: "/".join(letter * length for length in lengths).encode(),
    st.sampled_from("aä€"),
    st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=3),
)
entries = st.builds(
    lambda kind, content, link, device, **fields: (
        tar.Entry(
            kind=kind,
            size=len(content) if kind == tar.FILE else 0,
            link=link if kind in (tar.SYMLINK, tar.HARDLINK) else b"",
            major=device[0] if kind in (tar.CHARACTER, tar.DEVICE) else 0,
            minor=device[1] if kind in (tar.CHARACTER, tar.DEVICE) else 0,
            **fields,
        ),
        content if kind == tar.FILE else b"",
    ),
    kind=st.sampled_from([tar.FILE, tar.FOLDER, tar.SYMLINK, tar.HARDLINK, tar.CHARACTER, tar.DEVICE, tar.FIFO]),
    content=st.binary(max_size=1500),
    link=names,
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    name=names,
    mode=st.integers(0, 0o7777),
    uid=st.one_of(st.integers(0, 70000), st.integers(0, 2**32 - 2)),
    gid=st.one_of(st.integers(0, 70000), st.integers(0, 2**32 - 2)),
    mtime=st.one_of(st.integers(0, 2**31), st.integers(-(2**40), 2**40)).map(lambda seconds: seconds * 10**9),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"user.b", b"security.capability"]), st.binary(max_size=40), max_size=2
    ),
)


def written(members):
    return b"".join(tar.render(e) + content + tar.padding(e.size) for e, content in members) + tar.END


def read(data):
    reader = tar.Reader(io.BytesIO(data).read)
    return [(entry, b"".join(reader.content())) for entry in reader]


@given(st.lists(entries, max_size=4))
def test_what_is_written_is_read_again(members):
    folders = {entry.name for entry, _ in members if entry.kind == tar.FOLDER}
    again = [(e, content) for e, content in read(written(members))]
    for (entry, _), (found, _) in zip(members, again, strict=True):
        found.name = found.name.rstrip(b"/") if entry.name in folders else found.name
    assert again == members


@given(st.lists(entries, max_size=4))
def test_another_program_reads_the_same(members):
    with tarfile.open(fileobj=io.BytesIO(written(members)), mode="r:", errors="surrogateescape") as theirs:
        found = theirs.getmembers()
        for (entry, content), info in zip(members, found, strict=True):
            assert info.name.encode("utf-8", "surrogateescape") == entry.name
            assert (info.type, info.mode, info.uid, info.gid, info.size) == (
                entry.kind, entry.mode, entry.uid, entry.gid, entry.size,
            )  # fmt: skip
            assert int(info.mtime) * 10**9 == entry.mtime
            assert info.linkname.encode("utf-8", "surrogateescape") == entry.link
            assert (info.devmajor, info.devminor) == (entry.major, entry.minor)
            assert info.uname == info.gname == ""
            if entry.kind == tar.FILE:
                assert theirs.extractfile(info).read() == content
            for key, value in entry.xattrs.items():
                text = info.pax_headers["SCHILY.xattr." + key.decode()]
                assert text.encode("utf-8", "surrogateescape") == value


def test_the_extended_header_is_there_only_where_it_is_needed():
    plain = tar.Entry(b"a" * 100 + b"/" + b"b" * 100, uid=0o7777777, size=0, mtime=0o77777777777 * 10**9)
    assert len(tar.render(plain)) == 512
    for change in ({"name": "ä".encode()}, {"uid": 0o10000000}, {"mtime": -1}, {"link": b"x" * 101}):
        assert len(tar.render(tar.Entry(**{"name": b"a", **change}))) == 3 * 512


def test_a_name_whose_first_hundred_bytes_end_in_a_slash_is_no_folder():
    entry = tar.Entry(b"a" * 99 + b"/" + b"b" * 101, size=1)
    assert read(written([(entry, b"x")])) == [(entry, b"x")]


def test_folders_of_before_there_were_kinds():
    ((entry, _),) = read(archive(member("etc/", kind=tarfile.AREGTYPE)))
    assert entry.kind == tar.FOLDER


LONG = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 90


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_others_is_read(form):
    length = 3 if form != tarfile.USTAR_FORMAT else 2
    name = "/".join(LONG.split("/")[:length])
    members = [
        folder("etc"),
        member("etc/a", b"hello"),
        symlink("etc/b", "a"),
        hardlink("etc/c", "etc/a"),
        member(name, b"x" * 600),
    ]
    found = read(archive(*members, form=form))
    assert [(e.name.rstrip(b"/"), e.kind, content) for e, content in found] == [
        (b"etc", tar.FOLDER, b""), (b"etc/a", tar.FILE, b"hello"), (b"etc/b", tar.SYMLINK, b""),
        (b"etc/c", tar.HARDLINK, b""), (name.encode(), tar.FILE, b"x" * 600),
    ]  # fmt: skip
    assert found[2][0].link == b"a"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_large_and_negative_numbers_of_others_are_read(form):
    ((entry, _),) = read(archive(member("a", uid=3_000_000_000, gid=2_097_152, mtime=-5), form=form))
    assert (entry.uid, entry.gid, entry.mtime) == (3_000_000_000, 2_097_152, -5 * 10**9)


def test_times_have_their_fractions():
    ((entry, _),) = read(archive(member("a", mtime=12.25)))
    assert entry.mtime == 12_250_000_000


def test_a_global_header_and_a_missing_end_are_no_problem():
    data = archive(member("a", b"b"))
    comment = tar.render(tar.Entry(b"pax_global_header", b"g", size=20)) + b"20 comment=abcdefgh\n".ljust(512, b"\0")
    assert [e.name for e, _ in read(comment + data[:1024])] == [b"a"]


def with_pax(*records: bytes) -> bytes:
    body = b"".join(records)
    header = tar.render(tar.Entry(b"x", b"x", size=len(body)))
    return header + body + tar.padding(len(body)) + tar.render(tar.Entry(b"a")) + tar.END


def below_zero() -> bytes:
    header = bytearray(tar.render(tar.Entry(b"x", b"x")))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(512)


BAD = {
    "checksum": b"\x01" + tar.render(tar.Entry(b"a"))[1:],
    "half a header": tar.render(tar.Entry(b"a"))[:300],
    "half a file": tar.render(tar.Entry(b"a", size=600)) + b"x" * 300,
    "record without a length": with_pax(b"path=b\n"),
    "record longer than the header": with_pax(b"99 path=b\n"),
    "record without a newline": with_pax(b"8 path=b"),
    "record of no length": with_pax(b"0 path=b\n"),
    "owner that chown would ignore": with_pax(b"10 uid=-1\n"),
    "owner that no file can have": with_pax(b"18 uid=4294967295\n"),
    "size below zero": with_pax(b"11 size=-1\n"),
    "size that isn't a number": with_pax(b"11 size=ab\n"),
    "time that no file can have": with_pax(b"42 mtime=" + b"9" * 32 + b"\n"),
    "zero byte in a name": with_pax(b"12 path=b\0c\n"),
    "sparse file": with_pax(b"22 GNU.sparse.major=1\n"),
    "extended header of 2 MiB": with_pax(b"2097152 comment=" + b"x" * (2097152 - 17) + b"\n"),
    "size below zero in base 256": below_zero(),
    "link to nothing": tar.render(tar.Entry(b"a", tar.SYMLINK)),
}  # fmt: skip


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_isnt_tar_is_refused(data):
    with pytest.raises(IntegrityError):
        read(data)


@given(st.data())
def test_damage_is_refused_or_harmless(data):
    good = bytearray(
        archive(folder("etc"), member("etc/a", b"hello"), member("ä" * 80, b"x", mtime=1.5), symlink("l", "x" * 120))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(good[: data.draw(st.integers(0, len(good)))]))
    except IntegrityError:
        pass
