"""The script `lab`: its verbs, its manners, and what it does about packages, with made-up system tools."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

VERBS = ("up", "setup", "test", "check", "bench", "peers", "clean")
PEERS = "crun runc docker.io skopeo umoci docker-registry".split()


@pytest.fixture
def lab(checkout, tmp_path) -> Path:
    """A copy of the script, so that nothing it does can touch the checkout."""
    return Path(shutil.copy(checkout / "lab", tmp_path / "lab"))


class Tools:
    """A folder of made-up programs, which write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.log = folder / "calls"
        self.bin.mkdir()
        self.log.write_text("")
        real = "awk cat chmod cksum cut date dirname env grep head id mkdir rm sed sh sleep stat tail tee tr uname"
        for name in real.split():
            if path := shutil.which(name):
                (self.bin / name).symlink_to(path)
        self.add("id", 'echo "${FAKE_UID:-0}"')

    def add(self, name: str, body: str = "") -> None:
        (self.bin / name).unlink(missing_ok=True)
        script = f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{body}\n'
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def debian(self, installed: list[str], available: list[str]) -> None:
        """dpkg-query, apt-get and apt-cache of a machine with some packages."""
        cases = " ".join(f"{package}) echo 'installed {package}';;" for package in installed)
        one = f'case $3 in *Version*) set -- $(case $4 in {cases} esac); echo "$1 1.0"; exit;; esac'
        self.add("dpkg-query", f'{one}\nfor package in "$@"; do case $package in {cases} esac; done')
        known = "|".join(available) or "nothing"
        self.add("apt-cache", f"case $3 in {known}) echo Package: $3;; esac")
        self.add("apt-get", 'echo "$DEBIAN_FRONTEND" >>' + str(self.log))

    def calls(self, name: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(f"{name} ")]


@pytest.fixture
def tools(tmp_path) -> Tools:
    return Tools(tmp_path)


def run(lab: Path, *words: str, tools: Tools | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script without a terminal and without input."""
    environment = {**os.environ, **({"PATH": str(tools.bin)} if tools else {}), **variables}
    command = ["/bin/sh", str(lab), *words]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", [[], ["help"], ["--help"]])
def test_alone_it_lists_its_verbs(lab, words):
    result = run(lab, *words)
    assert result.returncode == 0
    assert re.findall(r"^  ([a-z]+) ", result.stdout, re.MULTILINE) == list(VERBS)


def test_it_has_the_verbs_that_it_lists(lab):
    dispatch = lab.read_text().split("case $verb in")[1]
    assert re.findall(r"^    ([a-z]+)\)", dispatch, re.MULTILINE) == list(VERBS)


def test_an_unknown_verb_is_named(lab):
    result = run(lab, "fly")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "lab: there is no verb 'fly'"


@pytest.mark.parametrize("words", [["--port", "http"], ["--port"], ["--port=8o"], ["--tunnel"]])
def test_wrong_options_of_up_are_noticed_before_anything_is_done(lab, tools, words):
    result = run(lab, "up", *words, tools=tools)
    assert result.returncode == 1
    assert words[0].split("=")[0] in result.stderr
    assert "Traceback" not in result.stderr
    assert tools.log.read_text() == ""


def test_elsewhere_than_on_linux_it_says_what_to_do(lab, tools):
    tools.add("uname", "echo Darwin")
    result = run(lab, "setup", tools=tools)
    assert result.returncode == 1
    assert "Lima" in result.stderr
    assert "WSL2" in result.stderr


def test_without_apt_it_names_the_packages(lab, tools):
    result = run(lab, "setup", tools=tools)
    assert result.returncode == 1
    assert "LAB_NO_APT=1" in result.stderr
    assert "busybox-static" in result.stderr


def test_missing_packages_without_root_are_named_with_the_line_to_type(lab, tools):
    tools.debian([], PEERS)
    result = run(lab, "setup", tools=tools, FAKE_UID="1000")
    assert result.returncode == 1
    assert "apt-get install --no-install-recommends" in result.stderr
    assert "busybox-static" in result.stderr
    assert tools.calls("apt-get") == []


def test_what_is_installed_is_not_installed_again(lab, tools):
    tools.debian(PEERS, PEERS)
    result = run(lab, "peers", tools=tools)
    assert result.returncode == 0, result.stderr
    assert tools.calls("apt-get") == []
    assert [line.split() for line in result.stdout.splitlines()] == [[name, "1.0"] for name in PEERS]


def test_only_what_is_missing_and_exists_is_installed_and_nothing_is_asked(lab, tools):
    lab.write_text(lab.read_text().replace("policy=/usr/sbin/policy-rc.d", f"policy={tools.bin}/policy-rc.d"))
    tools.debian(["crun"], [name for name in PEERS if name != "umoci"])
    result = run(lab, "peers", tools=tools)
    assert result.returncode == 0, result.stderr
    update, install = tools.calls("apt-get")
    assert update.endswith(" update")
    assert install.endswith(" --no-install-recommends install runc docker.io skopeo docker-registry")
    assert "-y" in install.split()
    assert "--no-remove" in install.split()
    assert tools.log.read_text().count("noninteractive") == 2
    assert not (tools.bin / "policy-rc.d").exists()


def test_services_are_held_while_packages_are_installed_also_when_that_fails(lab, tools):
    policy = tools.bin / "policy-rc.d"
    lab.write_text(lab.read_text().replace("policy=/usr/sbin/policy-rc.d", f"policy={policy}"))
    tools.debian([], PEERS)
    tools.add("apt-get", f'case $* in *install*) cat {policy} >>{tools.log}; echo "no space left"; exit 100;; esac')
    result = run(lab, "peers", tools=tools)
    assert result.returncode != 0
    assert "exit 101" in tools.log.read_text()
    assert not policy.exists()
    assert "    | no space left" in result.stderr
    assert str(lab.parent / ".cache" / "log") in result.stderr


def test_an_interrupted_step_ends_the_lab_with_a_sentence(lab, tools):
    tools.debian([], PEERS)
    tools.add("apt-get", "kill -INT $PPID")
    result = run(lab, "setup", tools=tools)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "lab: interrupted; run the same again to go on"
    assert len(tools.calls("apt-get")) == 1


def test_dockers_own_packages_are_left_alone(lab, tools):
    tools.debian(["docker-ce", "containerd.io", "crun", "skopeo", "umoci", "docker-registry"], PEERS)
    result = run(lab, "peers", tools=tools)
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["crun", "skopeo", "umoci", "docker-registry"]
    assert "left out" in result.stderr
    assert tools.calls("apt-get") == []


def test_no_python_is_a_clear_sentence(lab, tools):
    result = run(lab, "check", tools=tools, LAB_PYTHON="/nowhere/python3")
    assert result.returncode == 1
    assert result.stderr == "lab: LAB_PYTHON=/nowhere/python3 is no Python of version 3.11 or newer\n"


def test_an_old_python_is_a_clear_sentence(lab, tools):
    tools.add("old", "exit 0")  # what the question for the version makes an old one do: print nothing
    result = run(lab, "check", tools=tools, LAB_PYTHON=str(tools.bin / "old"))
    assert result.returncode == 1
    assert "3.11 or newer" in result.stderr


def test_the_lab_asks_for_nothing(lab):
    assert not re.search(r"^\s*read\b", lab.read_text(), re.MULTILINE)


def test_shellcheck_finds_nothing(lab, needs):
    subprocess.run([needs("shellcheck"), lab], check=True)
