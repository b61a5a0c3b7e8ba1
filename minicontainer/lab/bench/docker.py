"""A Docker daemon of our own, in a temporary folder, of which nothing stays.

Layer: lab.bench (imports errors, lab.contestant).

    setpriv --pdeathsig KILL        should we be killed, so is the next, and with it all below
      unshare -mpf --kill-child     processes and mounts of the daemon are in namespaces that end with it
        dockerd --data-root FOLDER/docker/data --exec-root FOLDER/docker/exec -H unix://FOLDER/docker/socket
          containerd, shims, runc, containers

It has no bridge and no firewall rules, control groups below `minicontainer`, and empty folders in place of
/etc/docker, /run/containerd and /run/docker: neither another daemon's settings nor its containerd take part.
What stays is what Docker leaves wherever it ran: the AppArmor profile `docker-default` in the kernel, on machines that
have AppArmor.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess
import tarfile
import time
from types import TracebackType
from typing import Self

from ...errors import HostError
from ...isolation.cgroups.tree import remove_tree
from ..contestant import family

_PRIVATE = ("/etc/docker", "/run/containerd", "/run/docker")
_CGROUP = "/sys/fs/cgroup"
_PATIENCE = 30.0
"""Seconds that the daemon may take to come up, and to answer."""
_SCRIPT = 'for folder in $1; do mount -t tmpfs tmpfs "$folder" || exit; done; shift; exec "$@"'


class DockerDaemon:
    """A context manager: runs inside it. `client` and `program`: the paths of docker and dockerd."""

    def __init__(self, folder: str, client: str, program: str) -> None:
        self.client, self.program = client, program
        self.folder = os.path.join(folder, "docker")
        self.environment = {
            "DOCKER_HOST": f"unix://{self.folder}/socket",
            "DOCKER_CONFIG": f"{self.folder}/config",
            "DOCKER_CONTEXT": "",
        }
        self._group = f"/minicontainer/bench-docker-{os.getpid()}"
        self._made: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        os.makedirs(f"{self.folder}/config")
        with open(f"{self.folder}/daemon.json", "w") as file:
            file.write("{}")
        for path in _PRIVATE:
            if not os.path.isdir(path):
                os.makedirs(path)
                self._made.append(path)
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        command = [
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "-mpf", "--propagation", "private", "--kill-child", "--mount-proc",
            "sh", "-c", _SCRIPT, "sh", " ".join(_PRIVATE),
            self.program, "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
            "-H", f"unix://{self.folder}/socket", "--pidfile", f"{self.folder}/pid",
            "--config-file", f"{self.folder}/daemon.json", "--log-level", "warn",
            "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
            "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", self._group,
        ]  # fmt: skip
        with open(f"{self.folder}/log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _PATIENCE
        while self._docker("version").returncode != 0:
            if self._process.poll() is not None:
                raise HostError(f"dockerd ended: {self._last_words()}")
            if time.monotonic() > deadline:
                raise HostError(f"dockerd didn't answer within {_PATIENCE:g} s: {self._last_words()}")
            time.sleep(0.2)

    def load(self, rootfs: str, name: str) -> None:
        """Make an image of a folder. Raises HostError."""
        archive = f"{self.folder}/image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(rootfs, arcname="/")
        done = self._docker("import", archive, name)
        if done.returncode != 0:
            raise HostError(f"docker import failed: {done.stderr.strip()}")

    def _docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        command = [self.client, *arguments]
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"docker {arguments[0]} took longer than {_PATIENCE:g} s: {self._last_words()}") from None

    def _last_words(self) -> str:
        with open(f"{self.folder}/log", errors="replace") as log:
            return (log.read().strip().splitlines() or ["it said nothing"])[-1][-300:]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the daemon and all that it started, and remove what it wrote outside the folder."""
        if self._process is not None:
            # The first process of the PID namespace: with it the kernel ends all others, and then unshare ends too.
            first = family(self._process.pid)[1:2]
            for pid in first:
                os.kill(pid, signal.SIGKILL)
            if not first:
                self._process.kill()
            self._process.wait()
        for path in self._made:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        remove_groups()


def remove_groups() -> None:
    """Remove the control groups of this process's benchmark, and of those that were killed, from every hierarchy."""
    for top in (f"{_CGROUP}/minicontainer", *glob.glob(f"{_CGROUP}/*/minicontainer")):
        for group in glob.glob(f"{top}/bench-*-*"):
            owner = group.rpartition("-")[2]
            if owner == str(os.getpid()) or not os.path.exists(f"/proc/{owner}"):
                remove_tree(group)
        with contextlib.suppress(OSError):  # somebody's containers are in it
            os.rmdir(top)
