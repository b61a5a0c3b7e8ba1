"""The folder of a container, as `create` fills it."""

from __future__ import annotations

import builtins
import os
from pathlib import Path

import pytest

from minicontainer.documents import read_document
from minicontainer.runtime import bundle
from minicontainer.runtime.bundle import fill, generated_files
from minicontainer.runtime.spec import GENERATED_FILES


def test_a_bundle_has_what_the_specification_mounts(tmp_path: Path) -> None:
    files = generated_files("none", "web")
    assert sorted(files) == sorted(GENERATED_FILES)
    fill(str(tmp_path), {"ociVersion": "1.0.2"}, files)
    assert sorted(os.listdir(tmp_path)) == sorted([*GENERATED_FILES, "config.json", "merged", "upper", "work"])
    assert read_document(str(tmp_path / "config.json")) == {"ociVersion": "1.0.2"}
    assert (tmp_path / "hostname").read_text() == "web\n"


def test_a_containers_hosts_are_its_own_and_in_the_hosts_network_the_hosts(monkeypatch) -> None:
    monkeypatch.setattr(bundle, "_read", lambda path: f"what {path} says\n")
    assert generated_files("none", "web")["hosts"].startswith("127.0.0.1\tlocalhost\n")
    assert generated_files("host", "web")["hosts"] == "what /etc/hosts says\n"
    assert generated_files("none", "web")["resolv.conf"] == "what /etc/resolv.conf says\n"


def test_a_host_without_these_files_is_no_error(monkeypatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", missing)
    assert generated_files("host", "web") == {"hostname": "web\n", "hosts": "", "resolv.conf": ""}


def test_a_host_name_that_is_not_utf_8_is_written_as_it_is(tmp_path: Path) -> None:
    fill(str(tmp_path), {}, generated_files("none", os.fsdecode(b"caf\xe9")))
    assert (tmp_path / "hostname").read_bytes() == b"caf\xe9\n"


# One accented comment in Latin-1, and no `--network host` would start.
def test_a_hosts_file_that_is_not_utf_8_is_copied_as_it_is(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "hosts").write_bytes(b"127.0.0.1 localhost # caf\xe9\n")
    real_open = builtins.open
    monkeypatch.setattr(
        builtins,
        "open",
        lambda path, *more, **named: real_open(f"{tmp_path}/hosts" if path == "/etc/hosts" else path, *more, **named),
    )
    files = generated_files("host", "web")
    monkeypatch.undo()
    (tmp_path / "bundle").mkdir()
    fill(str(tmp_path / "bundle"), {}, files)
    assert (tmp_path / "bundle/hosts").read_bytes() == b"127.0.0.1 localhost # caf\xe9\n"


@pytest.mark.parametrize("name", GENERATED_FILES)
def test_line_ends_are_kept(tmp_path: Path, name: str) -> None:
    fill(str(tmp_path), {}, {name: "a\r\nb\n"})
    assert (tmp_path / name).read_bytes() == b"a\r\nb\n"
