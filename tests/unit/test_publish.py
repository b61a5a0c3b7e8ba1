"""What is saved in the place of a live view."""

from __future__ import annotations

import pytest

pytest.importorskip("nbclient", reason="the extra [lab] isn't installed")

from minicontainer.lab.publish import VIEW, still

WIDGETS = {
    "box": {"children": ["IPY_MODEL_buttons", "IPY_MODEL_picture"]},
    "buttons": {"children": ["IPY_MODEL_stop"]},
    "stop": {"description": "Stop"},
    "picture": {"value": "<svg>the end</svg>"},
}


def test_the_last_picture_takes_the_place_of_the_view() -> None:
    data = {VIEW: {"model_id": "box"}, "image/svg+xml": "<svg>the start</svg>", "text/plain": "Race()"}
    still(data, WIDGETS)
    assert data == {"image/svg+xml": "<svg>the end</svg>", "text/plain": "Race()"}


def test_a_widget_without_a_picture_keeps_what_else_it_had() -> None:
    data = {VIEW: {"model_id": "stop"}, "text/plain": "Button()"}
    still(data, WIDGETS)
    assert data == {"text/plain": "Button()"}


def test_other_outputs_stay_as_they_are() -> None:
    data = {"image/png": "iVBOR", "text/plain": "Picture"}
    still(data, WIDGETS)
    assert data == {"image/png": "iVBOR", "text/plain": "Picture"}
