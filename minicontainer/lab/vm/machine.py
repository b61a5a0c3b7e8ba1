"""A virtual machine that boots an image and runs its process: a contestant beside the container of the same image.

Layer: lab.vm (imports session, media, qemu, kernel, runtime's spec, rootfs).

    image config + options ──make_spec──▶ process       the same document that a container of the image would get
    layers + process ──prepare_media──▶ initramfs, disk
    hardware ──qemu_command──▶ QEMU under its supervisor ──▶ Session ──▶ Snapshot

    with VirtualMachine(paths, kernel, layers, config, ["uname", "-r"], accelerator="tcg") as machine:
        machine.wait_for("workload", timeout=60)
        print(machine.snapshot().output)

Milestones, in their order:

    hypervisor    QEMU has built the machine: the greeting of its QMP monitor
    kernel        the guest's kernel prints its version
    userspace     our init runs
    workload      the first line that the image's process prints
    exit          it has ended
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from ...errors import InvalidArgument, StartFailed, WrongState
from ...paths import Paths
from ...rootfs import look_up_account
from ...runtime.spec import Options, make_spec
from ..measure import Milestone, Snapshot
from .kernel import Kernel
from .media import prepare_media
from .qemu import TCG, TRANSLATIONS_MB, Hardware, find_qemu, qemu_command
from .session import Session, explain

LEAST_MEMORY_MB = 64
BOOT_LIMIT = 60.0
"""Seconds until userspace, after which a machine is taken for hung."""


class VirtualMachine:
    """One guest with one processor. Made ready when it is constructed; may be started again after it was stopped."""

    def __init__(
        self,
        paths: Paths,
        kernel: Kernel,
        layers: Sequence[str],
        config: Mapping[str, Any] | None = None,
        command: Sequence[str] = (),
        *,
        accelerator: str = TCG,
        memory_mb: int = 128,
        label: str = "virtual machine",
        options: Options | None = None,
        boot_limit: float = BOOT_LIMIT,
    ) -> None:
        """`layers`: unpacked, topmost first. `config`: the image's OCI config. `options`: as for a container.

        Raises MissingTool (QEMU, busybox, mke2fs), InvalidArgument (no command, an unknown user, too little memory),
        HostError where the boot media can't be made.
        """
        if memory_mb < LEAST_MEMORY_MB:
            problem = f"{memory_mb} MiB are too few for a guest's kernel"
            raise InvalidArgument(problem, hint=f"give it {LEAST_MEMORY_MB} or more")
        self.label = label
        self.kernel = kernel
        self.accelerator = accelerator
        self.memory_mb = memory_mb
        self._paths, self._layers, self._boot_limit = paths, tuple(layers), boot_limit
        self._qemu = find_qemu(kernel.architecture)
        options = (options or Options()).replace(command=tuple(command))
        document = dict(config or {})
        user = options.user or (document.get("config") or {}).get("User") or ""
        account = look_up_account(user, self._layers)
        spec = make_spec("minicontainer", "", document, options.replace(hostname=options.hostname or "vm"), account)
        self._process, self._hostname = spec["process"], spec["hostname"]
        self._lock = threading.Lock()
        self._session: Session | None = None
        self.media = self._prepare()

    def _prepare(self) -> Any:
        return prepare_media(
            self._paths, self.kernel, self._layers, self._process, self._hostname, self.memory_mb << 20
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know, a sentence each."""
        notes = [f"guest kernel {self.kernel.release}, 1 processor, {self.memory_mb} MiB, no network card"]
        if self.accelerator == TCG:
            notes.append(
                "accelerator tcg: QEMU translates every instruction of the guest, which is several times slower"
            )
            notes.append(f"its memory includes up to {TRANSLATIONS_MB} MiB of translations, which it wouldn't with kvm")
        where = "on a disk" if self.media.disk else "in the initramfs"
        notes.append(f"the image is {where}, made before the clock starts")
        notes.append("to be fast, the kernel is started without its ciphers' self-tests and address randomisation")
        return tuple(notes)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the image's process, None as long as there is none."""
        session = self._session
        return session.console.exit_code if session else None

    @property
    def pid(self) -> int:
        """QEMU's process id; 0 while it isn't running."""
        session = self._session
        return session.pid if session else 0

    def start(self) -> None:
        """Start QEMU and return at once. Raises WrongState while it runs, HostError where no process can be started."""
        with self._lock:
            if self._session is not None and not self._session.ended:
                raise WrongState(f"the {self.label} is running", hint="stop it before it is started again")
            if not all(os.path.exists(path) for path in (self.media.initramfs, self.media.disk) if path):
                self.media = self._prepare()  # others have been made since, and these were the oldest
            media = self.media
            hardware = Hardware(self.kernel, self.accelerator, self.memory_mb, media.initramfs, media.disk)
            self._session = Session(
                lambda monitor: qemu_command(self._qemu, hardware, monitor), media.tag, self._boot_limit
            )

    def stop(self) -> None:
        """End QEMU and reap it. What was measured stays. Nothing, if it never ran or has ended."""
        session = self._session
        if session is not None:
            session.stop()

    def snapshot(self) -> Snapshot:
        """What is known now."""
        session = self._session
        if session is None:
            return Snapshot(self.label, self.accelerator, (), (), (), done=False)
        with session.changed:
            return Snapshot(
                self.label,
                self.accelerator,
                tuple(session.console.milestones),
                tuple(session.samples),
                tuple(session.console.output),
                done=session.ended,
                error=explain(session, self.memory_mb),
            )

    def wait_for(self, name: str, timeout: float = 60.0) -> Milestone:
        """Wait for a milestone. Raises StartFailed if the machine ends without it, or `timeout` seconds pass."""
        session = self._running()
        if not session.wait(lambda: session.console.has(name), timeout):
            shot = self.snapshot()
            reason = shot.error or (f"it ended (exit code {self.exit_code})" if shot.done else f"{timeout:g} s passed")
            latest = session.console.latest
            raise StartFailed(
                f"the {self.label} didn't reach {name!r}: {reason}", hint=f"its last line: {latest}" if latest else ""
            )
        return next(milestone for milestone in session.milestones() if milestone.name == name)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the machine is off: its process's exit code. Raises StartFailed if that never ended by itself."""
        session = self._running()
        ended = session.wait(lambda: session.ended, timeout)
        shot = self.snapshot()
        if self.exit_code is None or not ended:
            reason = "it is still running" if not ended else shot.error or "it was stopped"
            raise StartFailed(f"the {self.label} has no exit code: {reason}")
        return self.exit_code

    def _running(self) -> Session:
        if self._session is None:
            raise WrongState(f"the {self.label} was never started")
        return self._session

    def __enter__(self) -> Self:
        if self._session is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
