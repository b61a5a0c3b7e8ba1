"""Names of images and containers against Docker's own tables and wording."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import InvalidArgument
from minicontainer.reference import Reference, is_container_name, is_id_prefix, parse_reference, short_id

DIGEST = "sha256:" + "0123456789abcdef" * 4

FILLED_IN = [
    ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
    ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
    ("team/app", "docker.io/team/app:latest", "team/app:latest"),
    ("library/team/app", "docker.io/library/team/app:latest", "library/team/app:latest"),
    ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
    ("localhost:5000/team/app:v1", "localhost:5000/team/app:v1", "localhost:5000/team/app:v1"),
    ("quay.io/app", "quay.io/app:latest", "quay.io/app:latest"),
    ("LOCAL/app", "LOCAL/app:latest", "LOCAL/app:latest"),
    ("[fc00::1]:5000/app", "[fc00::1]:5000/app:latest", "[fc00::1]:5000/app:latest"),
    (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
    (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
    ("docker.io/host.name/app", "docker.io/host.name/app:latest", "docker.io/host.name/app:latest"),
]

REFUSED = [
    ("", "invalid reference format"),
    ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
    ("quay.io/Team/app", "invalid reference format: repository name (Team/app) must be lowercase"),
    ("busybox:", "invalid reference format"),
    ("busybox@", "invalid reference format"),
    ("busybox:.x", "invalid reference format"),
    ("busybox:" + "a" * 129, "invalid reference format"),
    ("a b", "invalid reference format"),
    ("bücher", "invalid reference format"),
    ("a..b", "invalid reference format"),
    ("a___b", "invalid reference format"),
    ("../etc/passwd", "invalid reference format"),
    ("[fc00::1/app", "invalid reference format"),
    ("host:/app", "invalid reference format"),
    ("host:²/app", "invalid reference format"),
    ("https://host/app", "invalid reference format"),
    (f"x@{DIGEST[:-1]}", "invalid checksum digest length"),
    (f"x@{DIGEST.upper().replace('SHA', 'sha')}", "invalid checksum digest format"),
    ("x@md5:" + "0" * 32, "unsupported digest algorithm"),
    ("a/" + "b" * 254, "repository name must not be more than 255 characters"),
    ("0" * 64, "cannot specify 64-byte hexadecimal strings"),
]


@pytest.mark.parametrize(("text", "full", "short"), FILLED_IN)
def test_what_is_missing_is_filled_in(text, full, short):
    reference = parse_reference(text)
    assert str(reference) == full
    assert reference.familiar() == short


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_cant_be_a_name_is_refused_in_dockers_words(text, words):
    with pytest.raises(InvalidArgument) as caught:
        parse_reference(text)
    assert words in caught.value.message


def test_a_capital_letter_comes_with_the_spelling_that_works():
    with pytest.raises(InvalidArgument) as caught:
        parse_reference("BusyBox:1")
    assert caught.value.hint == "write it as busybox"


def test_the_fields():
    assert parse_reference("localhost:5000/a/b:c") == Reference("localhost:5000", "a/b", "c", "")
    assert parse_reference("a").name == "docker.io/library/a"


def test_every_name_that_docker_takes(conformance):
    for name in json.loads((conformance / "tables/reference_valid_names.json").read_text()):
        parse_reference(name)


def test_every_name_that_docker_refuses(conformance):
    for name in json.loads((conformance / "tables/reference_invalid_names.json").read_text()):
        with pytest.raises(InvalidArgument):
            parse_reference(name)


HOSTS = ["localhost", "localhost:5000", "quay.io", "HOST", "docker.io", "index.docker.io", "10.0.0.1:80", "[::1]:5000"]
COMPONENTS = ["library", "app", "a.b", "a__b", "a--b", "host.name", "0", "a" * 60, "localhost"]


@given(
    st.lists(st.sampled_from(HOSTS), max_size=1),
    st.lists(st.sampled_from(COMPONENTS), min_size=1, max_size=3),
    st.sampled_from(["", ":latest", ":V1.0-rc_1", ":_"]),
    st.sampled_from(["", f"@{DIGEST}"]),
)
def test_the_familiar_form_means_the_same(host, path, tag, digest):
    reference = parse_reference("/".join([*host, *path]) + tag + digest)
    assert parse_reference(reference.familiar()) == reference
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        reference = parse_reference(text)
    except InvalidArgument:
        return
    assert parse_reference(str(reference)) == reference
    assert reference.tag or reference.digest


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("web", True),
        ("web-1_a.B", True),
        ("0a", True),
        ("a", False),
        ("", False),
        ("-web", False),
        (".web", False),
        ("we b", False),
    ]
    + [("wéb", False), ("a/b", False)],
)
def test_container_names(text, good):
    assert is_container_name(text) is good


@pytest.mark.parametrize(
    ("text", "good"), [("a", True), ("0" * 64, True), ("0" * 65, False), ("", False), ("A", False), ("g", False)]
)
def test_beginnings_of_ids(text, good):
    assert is_id_prefix(text) is good


def test_short_ids():
    assert short_id(DIGEST) == short_id(DIGEST.removeprefix("sha256:")) == "0123456789ab"
