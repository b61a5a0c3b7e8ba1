"""Everything that can go wrong, as one tree.

Layer: bottom (imports nothing of the package).

    MinicontainerError              what failed, on what; `.hint` says, apart, what to do
    ├── NotFound                    no such container, image, blob …
    │   ├── ImageNotFound
    │   └── ContainerNotFound
    ├── Conflict                    it is there, but its name or its state forbids this
    │   ├── NameInUse
    │   └── WrongState
    ├── InvalidArgument             what the user wrote can't be meant
    ├── IntegrityError              bytes that aren't what their digest or their format says
    │   └── DigestMismatch
    ├── HostError                   this machine can't do it: no root, no overlay, no space, not Linux
    │   └── MissingTool
    └── StartFailed                 a step of the plan failed, and says which
        ├── CommandNotFound         exit code 127
        └── CommandNotExecutable    exit code 126

Rules: a message is one sentence, lower case, without a full stop, and names its object; it never needs the traceback
to be understood. Foreign errors (OSError, JSON errors) are turned into these once, at the edge of the layer that
knows what they mean. `exit_code` is Docker's for `run`: 125 when the engine itself failed, 126 and 127 when the command
did; other commands exit with 1.
"""

from __future__ import annotations

GENERAL = 125
"""The exit code of an error of the engine itself."""


class MinicontainerError(Exception):
    """The root of the tree: catch it to catch all that the engine raises on purpose."""

    exit_code = GENERAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the sentence, and the hint below it."""
        return [f"{type(self).__name__}: {self.message}", *([f"  hint: {self.hint}"] if self.hint else [])]

    def __reduce__(self) -> tuple[type[MinicontainerError], tuple[object, ...]]:
        """Keep the hint when the error crosses from the launcher to its client."""
        return type(self), (self.message, self.hint)


class NotFound(MinicontainerError):
    """Nothing here has that name or digest."""


class ImageNotFound(NotFound):
    """No image of this reference is in the store."""


class ContainerNotFound(NotFound):
    """No container has this name or ID prefix."""


class Conflict(MinicontainerError):
    """The object is there, but not in a state that allows this."""


class NameInUse(Conflict):
    """Another container has this name."""


class WrongState(Conflict):
    """The container's state forbids this verb, for example `exec` in a stopped one."""


class InvalidArgument(MinicontainerError):
    """An option, name or reference that can't be meant."""


class IntegrityError(MinicontainerError):
    """Stored or received bytes that break their own format."""


class DigestMismatch(IntegrityError):
    """Content whose SHA-256 isn't the one it was asked for by."""


class HostError(MinicontainerError):
    """This machine, or this user on it, can't do what was asked."""


class MissingTool(HostError):
    """A program that the step needs isn't installed."""


class StartFailed(MinicontainerError):
    """A step between the image and the running process failed."""


class CommandNotFound(StartFailed):
    """The container's command isn't in its image."""

    exit_code = 127


class CommandNotExecutable(StartFailed):
    """The container's command is there but can't be executed."""

    exit_code = 126
