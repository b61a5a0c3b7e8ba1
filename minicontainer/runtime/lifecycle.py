"""The life of a container as a table.

Layer: runtime. `TRANSITIONS` is the whole truth: who wants another verb or state edits it, and `diagram()` redraws
itself.

    (state, event) -> state          None: the container is gone

An event is a verb that a user gives, or `exit`, which happens.
"""

from __future__ import annotations

from ..errors import WrongState

CREATED = "created"
RUNNING = "running"
EXITED = "exited"
DAMAGED = "damaged"
"""Of a container whose documents can't be read: all that can be done is to remove it by force."""

TRANSITIONS: dict[tuple[str, str], str | None] = {
    (CREATED, "start"): RUNNING,
    (CREATED, "remove"): None,
    (RUNNING, "exec"): RUNNING,
    (RUNNING, "kill"): RUNNING,
    (RUNNING, "stop"): EXITED,
    (RUNNING, "exit"): EXITED,
    (EXITED, "start"): RUNNING,
    (EXITED, "remove"): None,
}

_LOOK = "minicontainer ps -a shows the state of every container"
# What a refused event is told, and what to do instead; Docker's words where it has some.
_REFUSALS = {
    (RUNNING, "remove"): (
        "cannot remove a running container {name}: stop the container before attempting removal or force remove",
        "minicontainer rm -f {name}",
    ),
    (CREATED, "exec"): ("container {name} is not running", _LOOK),
    (EXITED, "exec"): ("container {name} is not running", _LOOK),
    (CREATED, "kill"): ("cannot kill container {name}: it is not running", _LOOK),
    (EXITED, "kill"): ("cannot kill container {name}: it is not running", _LOOK),
    (RUNNING, "start"): ("container {name} is already running", _LOOK),
}


def check(state: str, event: str, name: str) -> str | None:
    """The state that `event` leads to from `state`; None where the container is gone then. Raises WrongState."""
    if (state, event) in TRANSITIONS:
        return TRANSITIONS[state, event]
    message, hint = _REFUSALS.get((state, event), (f"container {{name}} is {state}: it can't {event}", ""))
    raise WrongState(message.format(name=name), hint=hint.format(name=name))


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README and the notebooks."""
    rows = [f"    {state} --> {after or '[*]'}: {event}" for (state, event), after in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {CREATED}: create", *rows])
