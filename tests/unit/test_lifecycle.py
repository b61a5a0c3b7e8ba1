"""The life of a container: what its states allow, and what they refuse in a sentence."""

from __future__ import annotations

import itertools

import pytest

from minicontainer.errors import WrongState
from minicontainer.runtime.lifecycle import _REFUSALS, CREATED, DAMAGED, EXITED, RUNNING, TRANSITIONS, check, diagram

STATES = (CREATED, RUNNING, EXITED)
EVENTS = sorted({event for _, event in TRANSITIONS})
EVERYTHING = list(itertools.product(STATES, EVENTS))
FORBIDDEN = [pair for pair in EVERYTHING if pair not in TRANSITIONS]
OF_THE_DAMAGED = [(DAMAGED, event) for event in EVENTS]


@pytest.mark.parametrize(
    ("state", "event", "after"),
    [
        (CREATED, "start", RUNNING),
        (CREATED, "remove", None),
        (RUNNING, "exec", RUNNING),
        (RUNNING, "kill", RUNNING),
        (RUNNING, "stop", EXITED),
        (RUNNING, "exit", EXITED),
        (EXITED, "start", RUNNING),
        (EXITED, "remove", None),
    ],
)
def test_what_is_allowed(state: str, event: str, after: str | None) -> None:
    assert check(state, event, "web") == after
    assert len(TRANSITIONS) == 8, "a new row wants its test"


@pytest.mark.parametrize(("state", "event"), FORBIDDEN + OF_THE_DAMAGED)
def test_what_is_refused_is_refused_in_a_sentence(state: str, event: str) -> None:
    with pytest.raises(WrongState) as caught:
        check(state, event, "web")
    message, hint = caught.value.message, caught.value.hint
    assert "web" in message
    assert message[0].islower()
    assert not message.endswith(".")
    assert "{" not in message + hint


def test_every_state_and_event_has_an_answer() -> None:
    assert len(FORBIDDEN) + len(TRANSITIONS) == len(EVERYTHING)
    assert {after for after in TRANSITIONS.values() if after} <= set(STATES)


def test_removing_a_running_container_says_how() -> None:
    with pytest.raises(WrongState, match="cannot remove a running container web: stop the container") as caught:
        check(RUNNING, "remove", "web")
    assert caught.value.hint == "minicontainer rm -f web"


def test_a_name_with_braces_is_only_a_name() -> None:
    with pytest.raises(WrongState, match=r"container \{odd\} is already running"):
        check(RUNNING, "start", "{odd}")


def test_no_refusal_is_for_what_is_allowed() -> None:
    assert not set(_REFUSALS) & set(TRANSITIONS)
    assert set(_REFUSALS) <= set(EVERYTHING)


def test_every_container_can_end() -> None:
    """From each state some road leads to where the container is gone."""
    ends = {None}
    for _ in STATES:
        ends |= {state for (state, _), after in TRANSITIONS.items() if after in ends}
    assert ends == {None, *STATES}


def test_the_diagram_draws_every_row() -> None:
    lines = [line.strip() for line in diagram().splitlines()]
    assert lines[:2] == ["stateDiagram-v2", "[*] --> created: create"]
    assert set(lines[2:]) == {f"{state} --> {after or '[*]'}: {event}" for (state, event), after in TRANSITIONS.items()}
