"""The engine: all that can be done with images and containers, a verb each. Start to read here.

Layer: engine. It plans and records; it needs no privilege itself. What does is in the plans, and the monitor performs
them.

    run  =  create                                      start
            reference ─▶ image ─▶ layers                spec ─▶ plan ─▶ monitor ─▶ process
            image + options ─▶ spec (config.json)

Identifiers are full IDs here; `find` makes them of names and prefixes. `objects.py` gives the same verbs in
docker-py's words.
"""

from __future__ import annotations

import os

from . import errors, linux
from .errors import IntegrityError, InvalidArgument, MinicontainerError, NameInUse
from .images import Image, ImageStore
from .isolation.cgroups import Cgroup, CreateCgroup, cgroup_of, detect
from .paths import Paths
from .reference import is_container_name
from .rootfs import look_up_account
from .runtime import frames, lifecycle
from .runtime.bundle import fill, generated_files, read_spec
from .runtime.identity import send_signal, wait_for_end
from .runtime.launcher import DirectStarter, LauncherStarter
from .runtime.lifecycle import RUNNING
from .runtime.logs import read_log
from .runtime.monitor import Request
from .runtime.names import random_name
from .runtime.plan import exec_plan, script, start_plan
from .runtime.spec import Options, check_options, exec_process, has_home, make_spec
from .runtime.state import Containers, State, new_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .objects import ContainerCollection, ImageCollection

STOP_TIMEOUT = 10.0  # seconds, as Docker's


class Engine:
    """A container engine on one state folder (default: /var/lib/minicontainer, or what MINICONTAINER_ROOT says)."""

    def __init__(
        self, paths: Paths | str | None = None, starter: DirectStarter | LauncherStarter | None = None
    ) -> None:
        self.paths = paths if isinstance(paths, Paths) else Paths.default(paths)
        self.store = ImageStore(self.paths)
        self.bundles = Containers(self.paths)
        self._starter = starter or LauncherStarter()

    # The two collections import what a single command doesn't need.
    @property
    def containers(self) -> ContainerCollection:
        """Containers, in docker-py's words: `engine.containers.run("busybox", ["echo", "hello"])`."""
        from .objects import ContainerCollection

        return ContainerCollection(self)

    @property
    def images(self) -> ImageCollection:
        """Images, in docker-py's words: `engine.images.list()`."""
        from .objects import ImageCollection

        return ImageCollection(self)

    def close(self) -> None:
        """End the launcher. Running containers go on."""
        self._starter.close()

    # ── from an image to a container ──────────────────────────────────────────────────────────────────────────────

    def create(self, reference: str, options: Options, name: str = "", hold: Callable[[], None] = lambda: None) -> str:
        """Make a container, ready to start, and return its ID. Raises ImageNotFound, NameInUse, InvalidArgument.

        `hold` is called when all is checked and unpacked: from there to the start, an interrupt would leave a half.
        """
        image = self.store.resolve(reference)
        lowers = self.store.lowers(image)
        if name and not is_container_name(name):
            raise InvalidArgument(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                hint="two characters or more, the first a letter or a digit",
            )
        check_options(options)
        self.bundles.sweep()
        identifier = os.urandom(32).hex()
        spec = self._spec(identifier, image, lowers, options)
        hold()
        with self.bundles.draft(identifier) as draft:
            fill(draft, spec, generated_files(options.network, spec["hostname"]))
            state = new_state(
                identifier,
                name,
                reference,
                image.id,
                layers=[os.path.basename(lower) for lower in lowers],
                stopSignal=(image.config.get("config") or {}).get("StopSignal") or "",
                autoRemove=options.auto_remove,
                hasHome=has_home(image.config, options),
                tty=options.tty,
                openStdin=options.stdin,
                network=options.network,
                labels=dict(options.labels),
            )
            self._publish(state, draft, chosen=bool(name))
        return identifier

    def _publish(self, state: State, draft: str, chosen: bool) -> None:
        """Put the draft in its place, under the name that was chosen, or under the first free one."""
        for attempt in range(100):
            state["name"] = state["name"] or f"{random_name()}{attempt if attempt > 9 else ''}"
            try:
                return self.bundles.add(state, draft)
            except NameInUse:
                if chosen:
                    raise
                state["name"] = ""
        raise NameInUse("a hundred random names are all in use", hint="choose one with --name")

    def _spec(self, identifier: str, image: Image, lowers: tuple[str, ...], options: Options) -> dict[str, Any]:
        user = options.user or (image.config.get("config") or {}).get("User") or ""
        account = look_up_account(user, lowers)
        ids = (os.geteuid(), os.getegid())
        return make_spec(identifier, self.bundles.folder(identifier), image.config, options, account, ids)

    # ── from a container to a process ─────────────────────────────────────────────────────────────────────────────

    def start(self, identifier: str, attached: bool = False) -> int:
        """Start a container; a descriptor that speaks frames.py comes back, which the caller closes.

        `attached` has the process's output on it too. Raises WrongState, CommandNotFound, CommandNotExecutable,
        StartFailed.
        """
        state = self.bundles.load(identifier)
        with self.bundles.lock(identifier) as lock:
            state = self.bundles.read(identifier)
            lifecycle.check(state["status"], "start", state["name"])
            spec = self.spec_of(identifier)
            lowers = tuple(os.path.join(self.paths.layers, layer) for layer in state["layers"])
            hierarchies = detect(self.paths)
            plan = start_plan(spec, self.bundles.folder(identifier), identifier, lowers, hierarchies)
            cgroup = cgroup_of(hierarchies, identifier)
            request = Request(plan, self.paths, identifier, cgroup, state["tty"], state["openStdin"], attached)
            return self._perform(request, lock.descriptor)

    def exec(self, identifier: str, options: Options) -> int:
        """Run another process in a running container; like `start`, always attached. Raises WrongState as well."""
        state = self.bundles.load(identifier)
        lifecycle.check(state["status"], "exec", state["name"])
        spec = self.spec_of(identifier)
        account = None
        if options.user:
            layers = (os.path.join(self.paths.layers, layer) for layer in state["layers"])
            account = look_up_account(options.user, (f"{self.bundles.folder(identifier)}/upper", *layers))
        home = account.home if account and not state.get("hasHome") else ""
        process = exec_process(spec["process"], options, account, home)
        hierarchies = detect(self.paths)
        plan = exec_plan(spec, process, identifier, (state["first"][0], state["first"][1]), hierarchies)
        cgroup = cgroup_of(hierarchies, identifier)
        request = Request(plan, self.paths, identifier, cgroup, options.tty, options.stdin, attached=True, record=False)
        return self._perform(request)

    def _perform(self, request: Request, lock: int = -1) -> int:
        """Hand a plan to a monitor, and wait for its report: the descriptor to it, or the error that it reports."""
        ours, theirs = linux.socketpair(linux.SOCK_STREAM)
        try:
            self._starter.start(request, theirs, lock)
        finally:
            os.close(theirs)
        report = frames.read_report(ours)
        if "started" in report:
            return ours
        os.close(ours)
        if not report:
            raise errors.StartFailed("the monitor was killed before the container had started", hint="try it again")
        kind = getattr(errors, report["kind"], errors.StartFailed)
        raise kind(report["failed"], hint=report["hint"])

    def dry_run(self, reference: str, options: Options) -> str:
        """What `create` and `start` would do, as a shell script to read and to type. Nothing is made or started."""
        image = self.store.resolve(reference)
        lowers = self.store.lowers(image)
        check_options(options)
        identifier = os.urandom(32).hex()
        bundle = self.bundles.folder(identifier)
        spec = self._spec(identifier, image, lowers, options)
        plan = start_plan(spec, bundle, identifier, lowers, detect(self.paths))
        files = generated_files(options.network, spec["hostname"])
        return script(bundle, files, plan, tuple(step.path for step in plan if isinstance(step, CreateCgroup)))

    # ── a running container ───────────────────────────────────────────────────────────────────────────────────────

    def kill(self, identifier: str, signal: int) -> None:
        """Send a signal to a container's first process. Raises WrongState when it isn't running."""
        state = self.bundles.load(identifier)
        lifecycle.check(state["status"], "kill", state["name"])
        send_signal(state["first"], signal)

    def stop(self, identifier: str, timeout: float = STOP_TIMEOUT) -> None:
        """Ask a container to end (its stop signal), and after `timeout` seconds (-1: never) make it (SIGKILL)."""
        state = self.bundles.load(identifier)
        if state["status"] != RUNNING:
            return
        send_signal(state["first"], _stop_signal(state))
        if not wait_for_end(state["monitor"], timeout if timeout >= 0 else None):
            send_signal(state["first"], linux.SIGKILL)
            wait_for_end(state["monitor"])

    def wait(self, identifier: str, timeout: float | None = None) -> int | None:
        """The exit code of a container, once it has ended; None when it hasn't within `timeout` seconds."""
        state = self.bundles.load(identifier)
        if state["status"] == RUNNING:
            if not wait_for_end(state["monitor"], timeout):
                return None
            state = self.bundles.load(identifier)
        return int(state["exitCode"])

    def remove(self, identifier: str, force: bool = False) -> None:
        """Delete a container and all that it wrote; `force` kills it first. Raises WrongState when it is running."""
        try:
            state = self.bundles.load(identifier)
        except IntegrityError as error:
            if not force:
                raise
            self.bundles.end(identifier)
            state = self.bundles.damaged(identifier, error.message)
        if force and state["status"] == RUNNING:
            send_signal(state["first"], linux.SIGKILL)
            wait_for_end(state["monitor"])
            if identifier not in self.bundles.identifiers():  # it was to be removed at its end, and so it was
                return
            state = self.bundles.load(identifier)
        with self.bundles.lock(identifier):
            if state["status"] != lifecycle.DAMAGED:
                lifecycle.check(state["status"], "remove", state["name"])
            self.bundles.remove(state)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, word: str) -> str:
        """The ID of the container with this name, ID, or beginning of an ID. Raises ContainerNotFound."""
        return self.bundles.find(word)

    def states(self, ended: bool = False) -> list[State]:
        """The states of the containers that run, or with `ended` of all, newest first."""
        states = []
        for identifier in self.bundles.identifiers():
            try:
                states.append(self.bundles.load(identifier))
            except errors.ContainerNotFound:  # removed meanwhile
                continue
            except IntegrityError as error:
                states.append(self.bundles.damaged(identifier, error.message))
        states.sort(key=lambda state: str(state["created"]), reverse=True)
        return [state for state in states if ended or state["status"] == RUNNING]

    def state_of(self, identifier: str) -> State:
        """What is written down about a container (state.py), in line with the kernel."""
        return self.bundles.load(identifier)

    def spec_of(self, identifier: str) -> dict[str, Any]:
        """The specification of a container: its config.json."""
        return read_spec(self.bundles.folder(identifier))

    def cgroup(self, identifier: str) -> Cgroup:
        """The control group of a container."""
        return cgroup_of(detect(self.paths), identifier)

    def logs(self, identifier: str, follow: bool = False) -> Iterator[tuple[str, bytes, str]]:
        """What a container wrote: (stream, bytes, time). `follow` goes on until it has ended."""
        self.bundles.load(identifier)
        path = os.path.join(self.bundles.folder(identifier), "log.jsonl")

        def going_on() -> bool:
            try:
                return bool(self.bundles.load(identifier)["status"] == RUNNING)
            except MinicontainerError:
                return False

        return read_log(path, going_on if follow else None)

    def remove_image(self, name: str, force: bool = False) -> list[str]:
        """Remove an image's name, and what nothing uses any more: what went, a line each. Raises Conflict."""
        # Asked for under the store's lock, so that no container is made of it meanwhile unseen.
        return self.store.remove(name, force, lambda: {each["imageId"]: each["id"] for each in self.states(ended=True)})


def _stop_signal(state: State) -> int:
    """The image's, or SIGTERM: an image can ask for a signal that doesn't exist."""
    try:
        return linux.signal_number(str(state["stopSignal"]))
    except ValueError:
        return linux.SIGNALS["TERM"]
