"""Names for containers that were given none."""

from __future__ import annotations

import pytest

from minicontainer.reference import is_container_name, is_id_prefix
from minicontainer.runtime.names import PEOPLE, VIRTUES, random_name


@pytest.mark.parametrize("words", [VIRTUES, PEOPLE], ids=["virtues", "people"])
def test_words_are_sorted_and_come_once(words: list[str]) -> None:
    assert words == sorted(set(words))
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_there_are_some_five_thousand() -> None:
    assert 4_500 < len(VIRTUES) * len(PEOPLE) < 5_500


def test_every_name_may_be_a_containers_and_is_never_taken_for_an_id() -> None:
    for virtue, person in [(virtue, person) for virtue in VIRTUES for person in PEOPLE]:
        name = f"{virtue}_{person}"
        assert is_container_name(name)
        assert not is_id_prefix(name)


def test_a_random_name_is_one_of_them() -> None:
    names = {random_name() for _ in range(50)}
    assert len(names) > 30
    for name in names:
        virtue, person = name.split("_")
        assert virtue in VIRTUES
        assert person in PEOPLE
