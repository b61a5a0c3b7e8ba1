"""From a specification to a process, and all its life.

Layer: runtime.

    bundle      the folder of a container, filled
    spec        image config + options → config.json
    plan        config.json → steps
    process     the last steps: terminal, environment, exec
    perform     the steps, on both sides of the wall
    monitor     the process that stays with a container to its end
    pump        its bytes: container, log, client
    launcher    who forks the monitor
    frames      what a monitor and an attached command say to each other
    lifecycle   created → running → exited, as a table
    identity    processes that can't be mistaken for others
    state       what is written down about each container
    logs        what a container has said
"""

from __future__ import annotations

__all__: list[str] = []
