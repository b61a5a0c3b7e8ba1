"""The doctor on many machines: each is a few temporary folders."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from minicontainer.errors import NotFound
from minicontainer.lab import doctor
from minicontainer.lab.doctor import Finding, Report, containers, machine, trials
from minicontainer.lab.doctor.host import Host
from minicontainer.paths import Paths

WORKS = dict.fromkeys([*trials.NAMESPACES, "unprivileged", "overlay", "nft"], "")
DENIED = "Operation not permitted"
GIB = 1 << 30


def build(tmp_path: Path, **changes: object) -> Host:
    """A healthy Ubuntu 24.04 with cgroup v2, seen by root; `changes` are fields of Host."""
    for folder in ("proc/self/ns", "proc/sys/kernel", "proc/sys/user", "etc", "cgroup/system.slice"):
        (tmp_path / folder).mkdir(parents=True)
    for name in trials.NAMESPACES:
        (tmp_path / "proc/self/ns" / name).touch()
    paths = Paths(state=f"{tmp_path}/state", cgroup=f"{tmp_path}/cgroup", proc=f"{tmp_path}/proc")
    host = Host(
        paths,
        etc=tmp_path / "etc",
        tried=WORKS,
        say=lambda program, *_: f"{Path(program).name} 1.0",
        find=lambda program: f"/usr/bin/{program}",
    )
    put(host, "sys/kernel/osrelease", "6.8.0-45-generic\n")
    put(host, "sys/user/max_user_namespaces", "15000\n")
    put(host, "sys/kernel/apparmor_restrict_unprivileged_userns", "0\n")
    put(host, "filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n")
    put(host, "meminfo", "MemTotal: 2000000 kB\nMemAvailable: 1500000 kB\nSwapTotal: 0 kB\n")
    put(
        host,
        "self/mountinfo",
        f"30 1 0:30 / {tmp_path}/cgroup rw - cgroup2 cgroup2 rw\n1 0 8:1 / / rw - ext4 /dev/a rw\n",
    )
    put(host, "self/cgroup", "0::/user.slice\n")
    (tmp_path / "etc/os-release").write_text('PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\n')
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    for name in ("memory.current", "memory.swap.max"):
        (tmp_path / "cgroup/system.slice" / name).touch()
    return changed(host, changes)


def changed(host: Host, changes: Mapping[str, object]) -> Host:
    return Host(**{**vars(host), **changes})  # type: ignore[arg-type]


def put(host: Host, name: str, text: str) -> None:
    Path(host.paths.proc, name).write_text(text)


def user(tmp_path: Path, **failures: str) -> Host:
    return build(tmp_path, uid=1000, user="ada", tried={**WORKS, **failures})


def all_denied(*but: str) -> dict[str, str]:
    return {name: "" if name in but else DENIED for name in WORKS}


def rows(host: Host) -> dict[str, Finding]:
    found = [
        containers.kernel(host),
        machine.python(host),
        *containers.namespaces(host),
        containers.user_namespaces(host),
        containers.user_ranges(host),
        *containers.control_groups(host),
        containers.overlay(host),
        machine.nft(host),
        machine.qemu(host),
        machine.memory(host),
        machine.disk(host),
    ]
    for finding in found:
        assert finding.found
        assert bool(finding.remedy) == (finding.state != "ok"), (
            f"a remedy for all that isn't ok, and only then: {finding}"
        )
    return {finding.topic: finding for finding in found}


def wanting(host: Host) -> set[str]:
    return {topic for topic, finding in rows(host).items() if finding.state != "ok"}


def can_run(host: Host) -> bool:
    return Report("", tuple(rows(host).values())).can_run


def test_a_healthy_machine(tmp_path: Path) -> None:
    host = build(tmp_path)
    assert wanting(host) <= {"disk"}  # the one thing that is really looked at
    assert can_run(host)
    assert [topic for topic in rows(host) if topic.startswith("namespace ")] == [
        f"namespace {name}" for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup", "user", "time")
    ]


def test_ubuntu_restricts_user_namespaces_by_apparmor(tmp_path: Path) -> None:
    host = user(tmp_path, **all_denied("user"))
    put(host, "sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    (host.etc / "subuid").write_text("ada:100000:65536\n")
    (host.etc / "subgid").write_text("ada:100000:65536\n")
    found = rows(host)
    barred = found["user namespaces"]
    assert barred.state == "missing"
    assert "AppArmor's setting kernel.apparmor_restrict_unprivileged_userns is 1" in barred.found
    assert barred.remedy == "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    assert found["namespace mnt"].remedy == found["overlay"].remedy == barred.remedy
    assert found["subuid ranges"].state == "ok"
    assert not can_run(host)


def test_to_root_the_same_bar_is_no_more_than_a_limit(tmp_path: Path) -> None:
    host = build(tmp_path, tried={**WORKS, "unprivileged": DENIED})
    put(host, "sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    found = rows(host)["user namespaces"]
    assert found.state == "limited"
    assert "root's containers work all the same" in found.found
    assert found.remedy == "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"  # root needs no sudo
    assert can_run(host)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=10000"),
    ],
)
def test_settings_that_close_user_namespaces(tmp_path: Path, setting: str, value: str, remedy: str) -> None:
    host = user(tmp_path, **all_denied())
    put(host, f"sys/{setting}", f"{value}\n")
    found = rows(host)["user namespaces"]
    assert (found.state, found.remedy) == ("missing", remedy)
    assert setting.replace("/", ".") in found.found


def test_the_trial_decides_over_the_setting(tmp_path: Path) -> None:
    host = user(tmp_path)
    put(host, "sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    assert rows(host)["user namespaces"].state == "limited"
    assert can_run(host)


def test_user_namespaces_closed_for_no_known_reason(tmp_path: Path) -> None:
    host = user(tmp_path, **all_denied())
    assert rows(host)["user namespaces"].remedy == "sudo -i"
    assert DENIED in rows(host)["user namespaces"].found


def test_a_user_without_ranges(tmp_path: Path) -> None:
    host = user(tmp_path)
    (host.etc / "subuid").write_text("ada:100000:65536\n")
    (host.etc / "subgid").write_text("bob:100000:65536\n")
    found = rows(host)["subuid ranges"]
    assert (found.state, "subgid" in found.found) == ("limited", True)
    assert found.remedy == "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada"
    for name in ("subuid", "subgid"):
        (host.etc / name).write_text("1000:100000:65536\n")  # by number counts too
    assert rows(host)["subuid ranges"].state == "ok"
    found = rows(changed(host, {"find": lambda name: None if name == "newuidmap" else name}))["subuid ranges"]
    assert found.remedy == "sudo apt-get install -y uidmap"


def test_a_container_without_the_right_to_make_containers(tmp_path: Path) -> None:
    host = build(tmp_path, tried=all_denied("user", "unprivileged"))
    found = rows(host)
    assert found["namespace pid"].state == "missing"
    assert found["namespace pid"].remedy.startswith("docker run --privileged")
    assert not can_run(host)


def test_a_namespace_that_the_kernel_has_not(tmp_path: Path) -> None:
    host = build(tmp_path)
    Path(host.paths.proc, "self/ns/time").unlink()
    assert wanting(host) - {"disk"} == {"namespace time"}
    assert rows(host)["namespace time"].remedy == "apt-get install -y linux-image-generic && reboot"
    assert can_run(host)  # containers do without
    Path(host.paths.proc, "self/ns/pid").unlink()
    assert not can_run(host)


def test_a_namespace_whose_number_is_limited_to_none(tmp_path: Path) -> None:
    host = build(tmp_path, tried={**WORKS, "net": "No space left on device"})
    put(host, "sys/user/max_net_namespaces", "0\n")
    assert rows(host)["namespace net"].remedy == "sysctl -w user.max_net_namespaces=10000"


def test_trials_that_could_not_be_held_are_not_called_ok(tmp_path: Path) -> None:
    host = build(tmp_path, tried={})
    assert {finding.state for topic, finding in rows(host).items() if topic.startswith("namespace ")} == {"limited"}
    assert {"overlay", "user namespaces", "nft"} < wanting(host)


def test_overlay_that_is_not_loaded(tmp_path: Path) -> None:
    host = build(tmp_path, tried={**WORKS, "overlay": "No such device"})
    put(host, "filesystems", "nodev\tproc\n\text4\n")
    assert rows(host)["overlay"].remedy == "modprobe overlay"
    assert not can_run(host)


@pytest.mark.parametrize(
    ("uid", "remedy"),
    [(0, "mount -t tmpfs tmpfs {}/state"), (1000, "export MINICONTAINER_ROOT=/dev/shm/minicontainer")],
)
def test_overlay_can_not_lie_on_overlay(tmp_path: Path, uid: int, remedy: str) -> None:
    host = build(tmp_path, uid=uid, tried={**WORKS, "overlay": "Invalid argument"})
    put(host, "self/mountinfo", "1 0 0:9 / / rw - overlay overlay rw\n2 1 8:1 / /boot rw - ext4 /dev/a rw\n")
    found = rows(host)["overlay"]
    assert f"doesn't work on {tmp_path} (overlay): Invalid argument" in found.found
    assert found.remedy.endswith(remedy.format(tmp_path))


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.8.0-45-generic", "ok"),
        ("5.10.0-9-amd64", "limited"),
        ("5.4", "limited"),
        ("4.19.0-6", "missing"),
        ("", "limited"),
    ],
)
def test_the_age_of_the_kernel(tmp_path: Path, release: str, state: str) -> None:
    host = build(tmp_path)
    put(host, "sys/kernel/osrelease", f"{release}\n")
    assert containers.kernel(host).state == state
    assert can_run(host) == (state != "missing")


def test_an_old_python(tmp_path: Path) -> None:
    assert machine.python(build(tmp_path, python=(3, 10, 12))).state == "missing"


def test_no_control_groups(tmp_path: Path) -> None:
    host = build(tmp_path)
    put(host, "self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/a rw\n")
    found = rows(host)
    assert found["cgroup version"].state == "missing"
    assert found["cgroup version"].remedy == found["cgroup pids"].remedy == f"mount -t cgroup2 none {tmp_path}/cgroup"
    assert can_run(host)  # without limits


def test_hybrid_control_groups_of_which_memory_is_not_mounted(tmp_path: Path) -> None:
    host = build(tmp_path)
    mounts = [f"/ {tmp_path}/cgroup/{name} rw - cgroup cgroup rw,{name}" for name in ("cpu", "pids", "cpuset")]
    mounts.append(f"/ {tmp_path}/cgroup/unified rw - cgroup2 cgroup2 rw")
    put(host, "self/mountinfo", "".join(f"{n} 1 0:{n} {line}\n" for n, line in enumerate(mounts, 30)))
    put(host, "self/cgroup", "3:cpu:/\n2:pids:/\n1:cpuset:/\n0::/\n")
    for name in ("cpu", "pids", "cpuset", "unified"):
        (tmp_path / "cgroup" / name).mkdir()
    (tmp_path / "cgroup/unified/cgroup.controllers").write_text("\n")
    found = rows(host)
    assert found["cgroup version"].found.startswith("hybrid: v1 in ")
    assert found["cgroup pids"].found == f"v1, in {tmp_path}/cgroup/pids"
    assert found["cgroup memory"].state == found["cgroup swap"].state == "missing"
    assert "cgroup_enable=memory" in found["cgroup memory"].remedy
    assert found["cgroup memory"].remedy == found["cgroup swap"].remedy
    assert can_run(host)


def test_swap_that_is_not_counted(tmp_path: Path) -> None:
    host = build(tmp_path)
    assert rows(host)["cgroup swap"].found == "counted; this machine has no swap"
    put(host, "meminfo", f"MemTotal: 2000000 kB\nMemAvailable: 1500000 kB\nSwapTotal: {2 << 20} kB\n")
    assert rows(host)["cgroup swap"].found == "counted; this machine has 2 GiB of it"
    (tmp_path / "cgroup/system.slice/memory.swap.max").unlink()
    found = rows(host)["cgroup swap"]
    assert found.state == "limited"
    assert "swapaccount=1" in found.remedy


def test_swap_where_no_group_can_tell(tmp_path: Path) -> None:
    host = build(tmp_path)
    for name in ("memory.current", "memory.swap.max"):
        (tmp_path / "cgroup/system.slice" / name).unlink()
    assert rows(host)["cgroup swap"].state == "ok"
    put(host, "cmdline", "quiet swapaccount=0\n")
    assert rows(host)["cgroup swap"].state == "limited"


def test_control_groups_that_only_root_may_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = user(tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    found = rows(host)["cgroup memory"]
    assert (found.state, found.remedy) == ("limited", "systemd-run --user --scope -p Delegate=yes $SHELL")


def test_nft(tmp_path: Path) -> None:
    host = build(tmp_path, find=lambda _: None)
    assert (rows(host)["nft"].state, rows(host)["nft"].remedy) == ("missing", "apt-get install -y nftables")
    host = changed(host, {"find": str, "tried": {**WORKS, "nft": "Error: Operation not supported"}})
    assert (rows(host)["nft"].state, rows(host)["nft"].remedy) == ("limited", "modprobe nf_tables")
    assert can_run(host)


@pytest.mark.parametrize(
    ("architecture", "remedy"),
    [
        ("x86_64", "apt-get install -y qemu-system-x86"),
        ("aarch64", "apt-get install -y qemu-system-arm"),
        ("riscv64", "# "),
    ],
)
def test_without_qemu(tmp_path: Path, architecture: str, remedy: str) -> None:
    host = build(tmp_path, machine=architecture, find=lambda _: None)
    assert rows(host)["QEMU"].state == "missing"
    assert rows(host)["QEMU"].remedy.startswith(remedy)
    assert can_run(host)


def probe(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def probe_accelerator(_: Paths) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("minicontainer.lab.vm.probe")
    module.probe_accelerator = probe_accelerator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "minicontainer.lab.vm.probe", module)


def test_kvm_is_what_a_boot_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = build(tmp_path)
    probe(monkeypatch, SimpleNamespace(name="kvm", reason=""))
    assert machine.kvm(host) == Finding("KVM", "ok", "a guest has booted with it")
    probe(monkeypatch, SimpleNamespace(name="tcg", reason="no guest boots with /dev/kvm"))
    found = machine.kvm(host)
    assert found.state == "limited"
    assert found.found.endswith(": no guest boots with /dev/kvm")
    assert found.remedy.startswith("# nested virtualization is off")  # there is no vmx and no svm in /proc/cpuinfo
    put(host, "cpuinfo", "flags\t\t: fpu vmx\n")
    assert "kvm" in machine.kvm(host).remedy


def test_kvm_before_there_is_a_guest_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, NotFound("no guest kernel has been fetched"))
    found = machine.kvm(build(tmp_path))
    assert (found.state, found.remedy) == ("limited", "./lab setup")


def test_kvm_without_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, AssertionError("not to be called"))
    assert machine.kvm(build(tmp_path, find=lambda _: None)).remedy == "apt-get install -y qemu-system-x86"


@pytest.mark.parametrize(
    ("total", "available", "state"), [(960, 700, "ok"), (512, 400, "limited"), (4000, 300, "limited")]
)
def test_memory(tmp_path: Path, total: int, available: int, state: str) -> None:
    host = build(tmp_path)
    put(host, "meminfo", f"MemTotal: {total * 1024} kB\nMemAvailable: {available * 1024} kB\n")
    assert machine.memory(host).state == state
    assert f"{available} MiB of it available" in machine.memory(host).found


@pytest.mark.parametrize(("free", "state"), [(4 * GIB, "ok"), (GIB, "limited"), (GIB // 10, "missing")])
def test_disk(tmp_path: Path, free: int, state: str) -> None:
    host = build(tmp_path)
    assert machine.room(host, tmp_path, free).state == state


# ---------------------------------------------------------------------------------------------- the report

REPORT = Report(
    "Ubuntu 24.04, x86_64, as ada",
    (
        Finding("kernel", "ok", "Linux 6.8"),
        Finding("disk", "limited", "a sentence that is longer than the line has room for " * 3, "sudo apt-get clean"),
        Finding("nft", "missing", "not installed", "sudo apt-get clean\nsudo apt-get install -y nftables"),
        Finding("memory", "limited", "<b>&", "sudo apt-get clean"),
    ),
)


@pytest.mark.parametrize("width", [20, 60, 100, 200])
def test_the_text_keeps_to_its_width(width: int) -> None:
    lines = REPORT.text(width).splitlines()
    assert max(len(line) for line in lines) <= max(width, 60)
    assert [line.split()[:3] for line in lines[2:4]] == [["✓", "ok", "kernel"], ["!", "limited", "disk"]]


def test_a_remedy_is_shown_once_with_all_that_it_mends() -> None:
    text = str(REPORT)
    assert "  disk, memory:\n      sudo apt-get clean\n  nft:\n      sudo apt-get clean\n      sudo" in text
    assert text.endswith("Containers run here. Limited or missing: disk, nft, memory.")


def test_colour_only_repeats_what_the_words_say() -> None:
    coloured = REPORT.text(colour=True)
    assert coloured.count("\033[3") == len(REPORT.findings)
    assert re.sub(r"\033\[\d*m", "", coloured) == REPORT.text() == str(REPORT)
    assert "\033" not in str(REPORT)


def test_the_html_is_escaped_and_closed() -> None:
    page = REPORT._repr_html_()
    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "br":
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(page)
    assert opened == []
    assert "&lt;b&gt;&amp;" in page
    assert page.count("<tr>") == len(REPORT.findings) + 1
    assert "<code>sudo apt-get install -y nftables</code>" in page
    assert "color" not in page  # readable on light and on dark pages


def test_what_bars_containers_is_named() -> None:
    report = Report("", (Finding("overlay", "missing", "no", "x"), Finding("nft", "missing", "no", "x")))
    assert not report.can_run
    assert report.summary == "Containers can't start here yet: overlay must be mended first."
    assert Report("", (Finding("kernel", "ok", "Linux 6.8"),)).summary == "Everything works here."


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_not_linux(platform: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert "minicontainer needs Linux" in shown
    assert ("limactl start" in shown) == (platform != "win32")
    assert ("wsl --install" in shown) == (platform != "darwin")


def test_the_exit_code_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: REPORT)
    assert doctor.main(["--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["can_run"] is True
    assert document["findings"][0] == {"topic": "kernel", "state": "ok", "found": "Linux 6.8", "remedy": ""}
    barred = Report("here", (Finding("overlay", "missing", "no", "x"),))
    monkeypatch.setattr(doctor, "examine", lambda _: barred)
    assert doctor.main([]) == 1
    assert "\033" not in capsys.readouterr().out  # this is no terminal
