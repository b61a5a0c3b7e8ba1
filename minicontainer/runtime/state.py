"""What is written down about each container.

Layer: runtime.

    STATE/containers/<id>/config.json      the specification (spec.py)
                         /state.json       this module's document, see `new_state`
                         /lock             held while the container changes its state
                         /log.jsonl        logs.py
                         /upper work merged, hostname hosts resolv.conf
    STATE/names/<name>                     a symbolic link to ../containers/<id>: a name is taken by making it

Rules. The kernel has the truth about processes, the file says what was intended: `load` compares the two, and where a
monitor was killed it repairs the document before anyone sees it. A folder is filled under a name that begins with a
dot, and renamed when it is whole; what a killed command has left half-made, the next `create` removes.

Nothing here waits for the disk (fsync(2)). No container outlives a power cut, and the wait would cost every start 5 ms,
and the others on the same journal as much. What a power cut may tear is shown as damaged, and can be removed.
"""

from __future__ import annotations

import fcntl
import os

from .. import linux
from ..documents import Lock, read_document, write_document, write_new_document
from ..errors import ContainerNotFound, IntegrityError, NameInUse
from ..isolation.cgroups import cgroup_of, detect
from ..paths import Paths
from ..trees import remove_tree
from .identity import is_alive, send_signal
from .lifecycle import CREATED, DAMAGED, EXITED, RUNNING
from .logs import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

State = dict[str, "Any"]


def new_state(identifier: str, name: str, image: str, image_id: str, **more: object) -> State:
    """The document of a container that was created and has never run. Processes are (pid, birth in clock ticks)."""
    return {
        "id": identifier,
        "name": name,
        "image": image,
        "imageId": image_id,
        "created": timestamp(),
        "status": CREATED,
        "first": [0, 0],
        "monitor": [0, 0],
        "startedAt": "",
        "finishedAt": "",
        "exitCode": 0,
        "oomKilled": False,
        "error": "",
        **more,
    }


class Draft:
    """A container's folder in the making, locked: as long as this process lives, nobody takes it for a left-over.

    What is still there at the end of the block, because it was not published, is removed.
    """

    def __init__(self, path: str, guard: Lock) -> None:
        self.path = path
        self._guard = guard
        self._lock = Lock(os.path.join(path, "lock"))

    def __enter__(self) -> str:
        with self._guard:
            os.mkdir(self.path, 0o710)
            self._lock.__enter__()
        return self.path

    def __exit__(self, *_: object) -> None:
        remove_tree(self.path)
        self._lock.__exit__()


class ContainerLock(Lock):
    """The lock of a container, which may be gone by now. Raises ContainerNotFound then."""

    def __enter__(self) -> ContainerLock:
        try:
            super().__enter__()
        except FileNotFoundError:
            raise _gone(os.path.basename(os.path.dirname(self.path))) from None
        return self


def _gone(word: str) -> ContainerNotFound:
    hint = "minicontainer ps -a lists all containers, also those that have ended"
    return ContainerNotFound(f"No such container: {word}", hint)


class Containers:
    """The containers of one state folder."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._names = os.path.join(paths.state, "names")

    def folder(self, identifier: str) -> str:
        """The bundle of a container."""
        return os.path.join(self.paths.containers, identifier)

    def lock(self, identifier: str) -> ContainerLock:
        """The lock under which a container changes its state."""
        return ContainerLock(os.path.join(self.folder(identifier), "lock"))

    def add(self, state: State, draft: str) -> None:
        """Publish a container whose folder was filled at `draft`. Raises NameInUse."""
        name, identifier = state["name"], state["id"]
        link = os.path.join(self._names, name)
        with self._names_lock():
            holder = self._holder(link)
            if holder:
                raise NameInUse(
                    f'the container name "/{name}" is already in use by container "{holder}"',
                    hint=f"remove that one (minicontainer rm {name}) or choose another name",
                )
            os.makedirs(self._names, exist_ok=True)
            if os.path.lexists(link):  # whoever made it was killed before its container was there, or after it was gone
                os.unlink(link)
            write_new_document(os.path.join(draft, "state.json"), state)
            os.symlink(f"../containers/{identifier}", link)
            os.rename(draft, self.folder(identifier))

    def _holder(self, link: str) -> str:
        try:
            identifier = os.path.basename(os.readlink(link))
        except OSError:  # not there, or no name that could be
            return ""
        return identifier if os.path.exists(self.folder(identifier)) else ""

    def draft(self, identifier: str) -> Draft:
        """A new folder to fill, for a `with` block."""
        os.makedirs(self.paths.containers, mode=0o711, exist_ok=True)
        return Draft(os.path.join(self.paths.containers, f".{identifier}"), self._names_lock())

    def _names_lock(self) -> Lock:
        """Held for moments only: while names are looked up and taken, and while left-overs are told from work."""
        return Lock(os.path.join(self.paths.state, "names.lock"))

    def sweep(self) -> None:
        """Remove the drafts, and what a removal left, of commands that were killed."""
        for entry in self._listing():
            folder = os.path.join(self.paths.containers, entry)
            if entry.startswith(".") and self._is_abandoned(folder):
                remove_tree(folder)

    def _is_abandoned(self, folder: str) -> bool:
        """Whether nobody holds the lock of this draft any more."""
        with self._names_lock():
            try:
                descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(descriptor)
            return True

    def _listing(self) -> list[str]:
        try:
            return os.listdir(self.paths.containers)
        except FileNotFoundError:
            return []

    def find(self, word: str) -> str:
        """The ID that a name, an ID or the unique beginning of one stands for. Raises ContainerNotFound."""
        if word and "/" not in word and not word.startswith("."):
            holder = self._holder(os.path.join(self._names, word))
            if holder:
                return holder
            matches = [entry for entry in self._listing() if entry.startswith(word) and not entry.startswith(".")]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise ContainerNotFound(f"multiple IDs found with provided prefix: {word}", hint="give more digits")
        raise _gone(word)

    def identifiers(self) -> list[str]:
        """The IDs of all containers."""
        return [entry for entry in self._listing() if not entry.startswith(".")]

    def load(self, identifier: str) -> State:
        """The state of a container, brought in line with the kernel. Raises ContainerNotFound, IntegrityError."""
        state = self.read(identifier)
        if state["status"] == RUNNING and not is_alive(state["monitor"]):
            with self.lock(identifier):
                state = self.read(identifier)
                if state["status"] == RUNNING and not is_alive(state["monitor"]):
                    self._repair(state)
        return state

    def read(self, identifier: str) -> State:
        """The document as it is on disk. Raises ContainerNotFound, IntegrityError."""
        try:
            state = read_document(os.path.join(self.folder(identifier), "state.json"))
        except (FileNotFoundError, NotADirectoryError):
            if not os.path.isdir(self.folder(identifier)):
                raise _gone(identifier) from None
            state = None
        except IntegrityError:
            state = None
        if not _is_state(state):
            raise IntegrityError(
                f"container {identifier[:12]} has a damaged state.json", hint=f"minicontainer rm -f {identifier[:12]}"
            )
        found: State = state
        return found

    def damaged(self, identifier: str, error: str) -> State:
        """What can still be said of a container whose document can't be read."""
        links = os.listdir(self._names) if os.path.isdir(self._names) else []
        names = [name for name in links if os.path.basename(os.readlink(f"{self._names}/{name}")) == identifier]
        return {**new_state(identifier, names[0] if names else "", "", ""), "status": DAMAGED, "error": error}

    def write(self, state: State) -> None:
        """Replace the document, whole or not at all."""
        write_document(os.path.join(self.folder(state["id"]), "state.json"), state, durable=False)

    def _repair(self, state: State) -> None:
        """The monitor was killed, and the kernel has killed its container with it: make sure, and write it down."""
        self.end(state["id"])
        send_signal(state["first"], linux.SIGKILL)
        state.update(status=EXITED, exitCode=137, finishedAt=timestamp(), error="its monitor was killed")
        self.write(state)

    def end(self, identifier: str) -> None:
        """Kill whatever still runs in a container's cgroup, and remove it."""
        cgroup = cgroup_of(detect(self.paths), identifier)
        if cgroup.exists():
            cgroup.kill_all()
            cgroup.remove()

    def remove(self, state: State) -> None:
        """Take a container out of sight at once, name and all, then delete its files. The caller has its lock."""
        grave = os.path.join(self.paths.containers, f".{state['id']}")
        try:
            os.rename(self.folder(state["id"]), grave)
        except FileNotFoundError:  # another command was faster
            raise _gone(state["id"]) from None
        link = os.path.join(self._names, state["name"])
        with self._names_lock():
            if state["name"] and os.path.lexists(link) and os.path.basename(os.readlink(link)) == state["id"]:
                os.unlink(link)
        remove_tree(grave)


def _is_state(document: object) -> bool:
    """Whether this is a whole state: every key with a value of its kind, and processes as pairs of numbers."""
    if not isinstance(document, dict):
        return False
    kinds = {key: type(value) for key, value in new_state("", "", "", "").items()}
    return all(type(document.get(key)) is kind for key, kind in kinds.items()) and all(
        [type(number) for number in document[key]] == [int, int] for key in ("first", "monitor")
    )
