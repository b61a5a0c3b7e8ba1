"""Frozen records: what a frozen dataclass does, a Value does too."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from unittest import mock

import pytest

from minicontainer.values import Value


class Point(Value):
    x: int
    y: int = 0
    _cache: int = 0


class Solid(Point):
    z: int = 0


Twin = dataclasses.make_dataclass("Point", [("x", int), ("y", int, 0)], frozen=True)


def outcome(kind, arguments, named):
    try:
        made = kind(*arguments, **named)
    except TypeError:
        return "TypeError"
    return made.x, made.y, repr(made)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1,), {}),
        ((1, 2), {}),
        ((), {"x": 1}),
        ((1,), {"y": 2}),
        ((), {"y": 2, "x": 1}),
        ((), {}),
        ((), {"y": 2}),
        ((1, 2, 3), {}),
        ((1,), {"x": 1}),
        ((1,), {"z": 1}),
        ((1,), {"_cache": 1}),
    ],
)
def test_it_is_made_and_shown_as_a_dataclass_is(arguments, named) -> None:
    assert outcome(Point, arguments, named) == outcome(Twin, arguments, named)


@pytest.mark.parametrize(("arguments", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 3}), ((1,), {"x": 3})])
def test_a_wrong_call_is_told_the_class_and_the_field(arguments, named) -> None:
    with pytest.raises(TypeError, match=r"^Point\b.*\b[xz]\b"):
        Point(*arguments, **named)


def test_equal_fields_make_equal_values() -> None:
    assert Point(1, 2) == Point(x=1, y=2)
    assert Point(1) != Point(2)
    assert len({Point(1), Point(1, 0), Point(2)}) == 2


def test_values_of_different_classes_differ() -> None:
    assert Point(1) != Twin(1)
    assert Point(1) != Solid(1)
    assert Solid(1) != Point(1)


def test_equality_with_a_stranger_is_left_to_the_stranger() -> None:
    assert Twin(1) == mock.ANY
    assert Point(1) == mock.ANY


def test_a_value_with_an_unhashable_field_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point([]))


def test_it_can_not_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match=r"immutable.*replace"):
        point.x = 2
    with pytest.raises(AttributeError, match="immutable"):
        del point.x
    with pytest.raises(AttributeError, match="immutable"):
        point.colour = "red"
    assert point == Point(1)


def test_a_changed_copy() -> None:
    point = Point(1, 2)
    assert point.replace(y=3) == Point(1, 3)
    assert point == Point(1, 2)
    assert type(Solid(1).replace(z=5)) is Solid
    with pytest.raises(TypeError, match="colour"):
        point.replace(colour="red")


def test_the_fields_of_the_base_class_come_first() -> None:
    assert Solid(1, 2, 3) == Solid(x=1, y=2, z=3)
    assert repr(Solid(1)) == "Solid(x=1, y=0, z=0)"


def test_a_redefined_field_keeps_its_place_as_in_a_dataclass() -> None:
    class Lifted(Solid):
        y: int = 7

    assert (Lifted(1).x, Lifted(1).y, Lifted(1).z) == (1, 7, 0)
    assert repr(Lifted(1, 2, 3)) == "Lifted(x=1, y=2, z=3)".replace("Lifted", type(Lifted(1)).__name__)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal_and_still_frozen(copied) -> None:
    twin = copied(Solid(1, z=3))
    assert twin == Solid(1, 0, 3)
    with pytest.raises(AttributeError):
        twin.x = 2


def test_a_class_without_fields() -> None:
    class Nothing(Value):
        pass

    assert Nothing() == Nothing()
    assert repr(Nothing()) == "Nothing()"
