"""A bundle of ours, run as it is by runc and crun: the same process sees the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

# What a process sees of its container: users, capabilities, name, environment, mounts, devices, limits.
SCRIPT = """
id; hostname; pwd; umask; env | sort; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status
cut -d' ' -f5,6 /proc/self/mountinfo | sort; ls -l /dev | awk '{print $1, $NF}'
ls /sys/class/net; cat /proc/sys/kernel/hostname; cat /etc/hostname; echo $$; ps | wc -l
"""


def run_bundle(tool: str, bundle: Path) -> str:
    """What a bundle's process prints under another runtime; the overlay is mounted in a namespace that ends with it."""
    mount = "mount -t overlay -o lowerdir=$LOWER,upperdir=upper,workdir=work overlay merged"
    unified = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"  # crun refuses both
    script = f"cd {bundle} && {mount} && {unified} && exec {tool} run peer-{uuid.uuid4().hex[:8]}"
    state = json.loads((bundle / "state.json").read_bytes())
    lower = ":".join(str(bundle.parents[1] / "layers" / name) for name in state["layers"])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LOWER": lower},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def comparable(text: str) -> list[str]:
    """Without each runtime's own choices: the hierarchies shown, how a file is masked, a link to what isn't there."""
    return [
        line
        for line in text.splitlines()
        if not line.startswith(("/sys/fs/cgroup", "/proc/", "/sys/firmware", "/sys/devices"))
        and not line.endswith("/proc/kcore")
    ]


@pytest.mark.parametrize("tool", [pytest.param(name, marks=pytest.mark.peer(name)) for name in ("runc", "crun")])
@pytest.mark.parametrize("options", [(), ("--user", "1000:1001", "--workdir", "/srv", "--hostname", "box")], ids=str)
def test_a_bundle_runs_under_another_runtime_with_the_same_result(cli, tool, options):
    name = f"peer-{tool}"
    ours = cli.ok("run", "--name", name, *options, "busybox", "sh", "-c", SCRIPT)
    bundle = cli.folder(cli.inspect(name)["Id"])
    shutil.rmtree(bundle / "upper")
    (bundle / "upper").mkdir()
    theirs = run_bundle(tool, bundle)
    assert comparable(theirs) == comparable(ours)
