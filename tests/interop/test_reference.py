"""Names of images: Docker's own command takes and refuses the same ones. It needs no daemon to say so."""

from __future__ import annotations

import subprocess

import pytest

from minicontainer.errors import InvalidArgument
from minicontainer.reference import parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4
NAMES = [
    "app",
    "app:1",
    "team/app",
    "Team/app",
    "quay.io/Team/app",
    "LOCAL/app",
    "a..b",
    "a__b",
    "a___b",
    "a---b",
    "-a",
    "a-",
    "a//b",
    "/a",
    "a/",
    "a:",
    "a@",
    "a:.b",
    "a:" + "b" * 128,
    "a:" + "b" * 129,
    "a b",
    "ä",
    "a:ä",
    "localhost:5000/a",
    "host:/a",
    "host:0x/a",
    "ho.-st/a",
    "[::1]/a",
    "[::1]:80/a",
    "[::1",
    "[::1/a",
    "[::g]/a",
    f"a@{DIGEST}",
    f"a:b@{DIGEST}",
    f"a@{DIGEST[:-1]}",
    f"a@{DIGEST.upper()}",
    "a@md5:" + "0" * 32,
    "a@sha512:" + "0" * 128,
    DIGEST[7:],
    f"docker.io/{DIGEST[7:]}",
    "../a",
    "https://a/b",
]


@pytest.mark.peer("docker")
@pytest.mark.parametrize("name", NAMES)
def test_docker_takes_the_same_names(name):
    command = ["docker", "-H", "unix:///nonexistent", "tag", "x", name]
    refused = "Error parsing reference" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    try:
        parse_reference(name)
    except InvalidArgument:
        assert refused
    else:
        assert not refused
