"""The guest's kernel, with an apt of our own: what is asked for, what is kept, what is said when it fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.documents import read_document
from minicontainer.errors import HostError, IntegrityError, MissingTool, NotFound
from minicontainer.lab.vm import kernel as subject
from minicontainer.lab.vm.architecture import host_architecture
from minicontainer.lab.vm.kernel import choose_package, fetch_kernel, find_kernel, read_config
from minicontainer.paths import Paths

ARCHITECTURE = host_architecture("x86_64")
BUILT_IN = ("SERIAL_8250_CONSOLE", "BLK_DEV_INITRD", "DEVTMPFS", "EXT4_FS")
CONFIG = "".join(f"CONFIG_{option}=y\n" for option in BUILT_IN) + "CONFIG_BLK_DEV_NVME=m\n"
DEBIAN = {
    "linux-image-cloud-amd64": "Version: 6.1.27-1\nDepends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)",
    "linux-image-6.1.0-9-cloud-amd64": "Version: 6.1.27-1\nDepends: kmod, linux-base (>= 4.3~), initramfs-tools",
}
UBUNTU = {
    "linux-image-virtual": "Version: 6.8.0-31.31\nDepends: linux-image-6.8.0-31-generic",
    "linux-image-6.8.0-31-generic": "Version: 6.8.0-31.31\nDepends: kmod, linux-base, linux-modules-6.8.0-31-generic",
    "linux-modules-6.8.0-31-generic": "Version: 6.8.0-31.31",
}


class Apt:
    """apt-cache, apt-get and dpkg-deb as shell scripts, over a folder of packages that are folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / "bin").mkdir()
        (folder / "show").mkdir()
        self.tool("apt-cache", f'for name; do :; done; cat "{folder}/show/$name" 2>/dev/null || exit 100')
        self.tool(
            "apt-get",
            f'for name; do :; done; echo "$name" >>{self.log}; [ -d "{folder}/$name" ] || '
            '{ echo "E: Failed to fetch it  Temporary failure resolving" >&2; exit 100; }; : >"${name}_1_amd64.deb"',
        )
        self.tool("dpkg-deb", f'name=$(basename "$2"); mkdir -p "$3"; cp -r "{folder}/${{name%%_*}}/." "$3"')

    def tool(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def know(self, packages: dict[str, str]) -> None:
        for name, text in packages.items():
            (self.folder / "show" / name).write_text(f"Package: {name}\n{text}\n")

    def offer(self, package: str, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / package / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)

    def downloads(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def apt(tmp_path, monkeypatch):
    (tmp_path / "apt").mkdir()
    made = Apt(tmp_path / "apt")
    monkeypatch.setenv("PATH", f"{tmp_path}/apt/bin:/usr/bin:/bin")
    monkeypatch.setattr(subject, "host_architecture", lambda: ARCHITECTURE)
    return made


@pytest.fixture
def paths(tmp_path):
    return Paths(state=str(tmp_path / "state"))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def debian(apt):
    apt.know(DEBIAN)
    release = "6.1.0-9-cloud-amd64"
    files = {
        f"boot__vmlinuz-{release}": "kernel",
        f"boot__config-{release}": CONFIG,
        f"lib__modules__{release}__x.ko": "x",
    }
    apt.offer(f"linux-image-{release}", **files)
    return apt


def test_debians_cloud_kernel_is_all_in_one_package(apt):
    apt.know(DEBIAN)
    name = "linux-image-6.1.0-9-cloud-amd64"
    assert choose_package(ARCHITECTURE) == (name, "6.1.27-1", [name])


def test_ubuntus_has_its_modules_and_config_apart(apt):
    apt.know(UBUNTU)
    name = "linux-image-6.8.0-31-generic"
    assert choose_package(ARCHITECTURE) == (name, "6.8.0-31.31", [name, "linux-modules-6.8.0-31-generic"])


def test_no_known_package_says_what_was_looked_for(apt):
    with pytest.raises(HostError, match="linux-image-cloud-amd64, linux-image-virtual") as caught:
        choose_package(ARCHITECTURE)
    assert "apt-get update" in caught.value.hint


def test_fetched_once_and_then_found(debian, paths, said):
    kernel = fetch_kernel(paths, said.append)
    assert kernel == find_kernel(paths) == fetch_kernel(paths, said.append)
    assert Path(kernel.image).read_text() == "kernel"
    assert (kernel.release, kernel.version) == ("6.1.0-9-cloud-amd64", "6.1.27-1")
    assert debian.downloads() == ["linux-image-6.1.0-9-cloud-amd64"]
    assert said[0].startswith("downloading")
    assert said[-1].startswith("the guest kernel is here: 6.1.0-9-cloud-amd64")


def test_what_is_kept_is_small_and_readable(debian, paths, said):
    kernel = fetch_kernel(paths, said.append)
    assert sorted(os.listdir(kernel.folder)) == ["config", "vmlinuz"]
    assert sorted(os.listdir(Path(kernel.folder).parent)) == [kernel.release, "kernel.json", "lock"]
    assert Path(kernel.image).stat().st_mode & 0o444 == 0o444
    note = read_document(f"{Path(kernel.folder).parent}/kernel.json")
    assert note["config"]["BLK_DEV_NVME"] == "m"
    assert note["config"]["VIRTIO_BLK"] == "n"


def test_modules_come_when_they_are_asked_for(debian, paths, said):
    fetch_kernel(paths, said.append)
    kernel = fetch_kernel(paths, said.append, modules=True)
    assert (Path(kernel.modules) / "lib/modules" / kernel.release / "x.ko").read_text() == "x"
    fetch_kernel(paths, said.append, modules=True)
    assert len(debian.downloads()) == 2


def test_ubuntus_two_packages_become_one_kernel(apt, paths, said):
    apt.know(UBUNTU)
    apt.offer("linux-image-6.8.0-31-generic", **{"boot__vmlinuz-6.8.0-31-generic": "kernel"})
    apt.offer("linux-modules-6.8.0-31-generic", **{"boot__config-6.8.0-31-generic": CONFIG})
    assert fetch_kernel(paths, said.append).release == "6.8.0-31-generic"


def test_no_network_is_told_in_apts_own_words(apt, paths, said):
    apt.know(DEBIAN)
    with pytest.raises(HostError, match=r"can't download linux-image-6\.1\.0-9-cloud-amd64: Failed to fetch") as caught:
        fetch_kernel(paths, said.append)
    assert "network" in caught.value.hint
    assert sorted(os.listdir(f"{paths.lab}/kernel")) == ["lock"]
    with pytest.raises(NotFound):
        find_kernel(paths)


@pytest.mark.parametrize("option", ["SERIAL_8250_CONSOLE", "BLK_DEV_INITRD", "DEVTMPFS"])
def test_a_kernel_that_could_not_boot_is_refused(apt, paths, said, option):
    apt.know(DEBIAN)
    release = "6.1.0-9-cloud-amd64"
    config = CONFIG.replace(f"{option}=y", f"{option}=m")
    apt.offer(f"linux-image-{release}", **{f"boot__vmlinuz-{release}": "k", f"boot__config-{release}": config})
    with pytest.raises(HostError, match=f"{option} not built in"):
        fetch_kernel(paths, said.append)


def test_a_package_without_a_kernel_is_refused(apt, paths, said):
    apt.know(DEBIAN)
    apt.offer("linux-image-6.1.0-9-cloud-amd64", readme="nothing here")
    with pytest.raises(HostError, match="0 kernels and 0 configs"):
        fetch_kernel(paths, said.append)


def test_a_folder_that_cannot_be_written_is_told(debian, paths, said):
    os.mkdir(paths.state)
    Path(paths.lab).write_text("a file where the folder should be")
    with pytest.raises(HostError, match="can't keep a kernel in"):
        fetch_kernel(paths, said.append)


def test_no_kernel_names_the_command_that_fetches_one(paths):
    with pytest.raises(NotFound) as caught:
        find_kernel(paths)
    assert "fetch-kernel" in caught.value.hint


@pytest.mark.parametrize(
    "note",
    [
        b"{",
        b"[]",
        b'{"release":"x"}',
        b'{"release":"x","package":"p","version":"1","architecture":"s390x","config":{}}',
    ],
)
def test_a_damaged_note_is_told_and_repaired_by_fetching(debian, paths, said, note):
    kernel = fetch_kernel(paths, said.append)
    path = Path(kernel.folder).parent / "kernel.json"
    path.write_bytes(note)
    with pytest.raises(IntegrityError, match=r"kernel\.json"):
        find_kernel(paths)
    assert fetch_kernel(paths, said.append) == kernel


def test_a_kernel_whose_file_is_gone_is_fetched_again(debian, paths, said):
    kernel = fetch_kernel(paths, said.append)
    os.unlink(kernel.image)
    with pytest.raises(NotFound):
        find_kernel(paths)
    assert Path(fetch_kernel(paths, said.append).image).exists()


def test_without_apt_it_is_said_where_this_works(monkeypatch, tmp_path, paths, said):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="apt-cache") as caught:
        fetch_kernel(paths, said.append)
    assert "Debian and Ubuntu" in caught.value.hint


def test_a_config_is_read_by_whole_names():
    lines = (
        "# CONFIG_VIRTIO is not set",
        "CONFIG_VIRTIO_BLK=m",
        "CONFIG_EXT4_FS=y",
        "CONFIG_EXT4_FS_X=m",
        "XCONFIG_DEVTMPFS=y",
    )
    config = read_config("\n".join(lines) + "\n")
    assert (config["VIRTIO"], config["VIRTIO_BLK"], config["EXT4_FS"], config["DEVTMPFS"]) == ("n", "m", "y", "n")
