"""Tables, times and sizes: Docker's way."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cli import table

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (0.99, "Less than a second"),
        (1, "1 second"),
        (1.99, "1 second"),
        (2, "2 seconds"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 29 * MINUTE, "About an hour"),
        (3 * HOUR, "3 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (30 * DAY, "4 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (700 * DAY, "23 months"),
        (2 * 365 * DAY, "2 years"),
        (10 * 365 * DAY, "10 years"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert table.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(HOUR + 31 * MINUTE, "2 hours"), (2 * HOUR + 45 * MINUTE, "3 hours"), (47 * HOUR + 45 * MINUTE, "2 days")],
)
def test_hours_are_rounded_where_all_others_are_cut_off(seconds: float, words: str) -> None:
    assert table.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1024, "1.02kB"), (4_270_000, "4.27MB"), (77_800_000, "77.8MB")]
    + [(117_000_000, "117MB"), (1_240_000_000, "1.24GB"), (3 * 10**12, "3TB")],
)
def test_sizes_in_three_digits(count: int, text: str) -> None:
    assert table.size(count) == text


def test_columns_are_as_wide_as_their_widest_cell(capsys) -> None:
    table.print_table(("ID", "NAME", "LAST"), [("abc", "x", ""), ("d", "longer", "z")])
    assert capsys.readouterr().out == "ID    NAME     LAST\nabc   x\nd     longer   z\n"


def test_a_table_without_rows_is_its_header(capsys) -> None:
    table.print_table(("ID", "NAME"), [])
    assert capsys.readouterr().out == "ID   NAME\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["sh"], '"sh"'),
        (["sleep", "1000"], '"sleep 1000"'),
        (["12345678901234567890"], '"12345678901234567890"'),
        (["123456789012345678901"], '"1234567890123456789…"'),
        ([], '""'),
    ],
)
def test_a_command_is_cut_to_twenty_characters(arguments: list[str], shown: str) -> None:
    assert table.short_command(arguments) == shown


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("a\nb", r'"a\nb"'),
        ("a\x1b[31mb", r'"a\x1b[31mb"'),
        ("\t", r'"\t"'),
        ('say "hi"', r'"say \"hi\""'),
        ("\\", r'"\\"'),
    ],
)
def test_a_command_can_not_break_the_table(argument: str, shown: str) -> None:
    assert table.short_command([argument]) == shown
    assert table.quoted(argument) == shown


def test_what_is_not_utf_8_is_shown_escaped() -> None:
    assert table.quoted(os.fsdecode(b"caf\xe9")) == r'"caf\udce9"'


NOW = 1_700_000_100.0  # 2023-11-14T22:15:00Z


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2023-11-14T22:13:20Z", 100),
        ("2023-11-14T22:13:20.250000000Z", 99.75),
        ("2023-11-15T00:13:20+02:00", 100),
        ("2023-11-14T22:15:50Z", 0),  # a clock that was put back
    ],
)
def test_seconds_since(monkeypatch, moment: str, seconds: float) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert table.seconds_since(moment) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2023-11-14T19:15:00Z", "3 hours ago"),
        ("0001-01-01T00:00:00Z", "2024 years ago"),
        ("", "N/A"),
        ("yesterday", "N/A"),
    ]
    + [
        ("2023-02-30T00:00:00Z", "N/A"),
        ("2023", "N/A"),
        ("0000-00-00T00:00:00Z", "N/A"),
        ("99999-01-01T00:00:00Z", "N/A"),
    ],
)
def test_the_age_of_what_may_be_no_moment(monkeypatch, moment: str, shown: str) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert table.age(moment) == shown


@given(st.text() | st.datetimes().map(lambda moment: moment.isoformat()))
def test_any_text_has_an_age(moment: str) -> None:
    assert table.age(moment).endswith((" ago", "N/A"))
