"""Command lines as Docker reads them, and what is said about those that can't be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cli.options import (
    INTEGER,
    MANY,
    NUMBER,
    SIZE,
    SWITCH,
    Flag,
    HelpWanted,
    UsageError,
    describe,
    parse,
    parse_size,
)
from minicontainer.cli.run import EXEC_FLAGS, RUN_FLAGS

FLAGS = (
    Flag("interactive", "-i", "", SWITCH),
    Flag("tty", "-t", "", SWITCH),
    Flag("rm", "", "", SWITCH),
    Flag("env", "-e", "", MANY),
    Flag("name", "", "", default=""),
    Flag("user", "-u", ""),
    Flag("memory", "-m", "", SIZE),
    Flag("cpus", "", "", NUMBER),
    Flag("pids-limit", "", "", INTEGER),
)
UNSET = {"interactive": None, "tty": None, "rm": None, "env": [], "name": "", "user": None} | {
    "memory": None,
    "cpus": None,
    "pids-limit": None,
}


def read(line: str, interspersed: bool = False) -> tuple[dict[str, object], list[str]]:
    """What differs from the defaults, and the rest."""
    values, rest = parse(FLAGS, line.split(" ") if line else [], "run", interspersed)
    assert values.keys() == UNSET.keys()
    return {name: value for name, value in values.items() if value != UNSET[name]}, rest


@pytest.mark.parametrize(
    ("line", "values", "rest"),
    [
        ("", {}, []),
        ("busybox", {}, ["busybox"]),
        ("-i -t busybox", {"interactive": True, "tty": True}, ["busybox"]),
        ("-it busybox", {"interactive": True, "tty": True}, ["busybox"]),
        ("-ite A=1 busybox", {"interactive": True, "tty": True, "env": ["A=1"]}, ["busybox"]),
        ("-iteA=1 busybox", {"interactive": True, "tty": True, "env": ["A=1"]}, ["busybox"]),
        ("-e=A=1", {"env": ["A=1"]}, []),
        ("-e A=1 --env B=2 --env=C=3", {"env": ["A=1", "B=2", "C=3"]}, []),
        ("--name web", {"name": "web"}, []),
        ("--name=web", {"name": "web"}, []),
        ("--name=", {}, []),
        ("--name --rm", {"name": "--rm"}, []),
        ("-u 1000:1000", {"user": "1000:1000"}, []),
        ("-u -1", {"user": "-1"}, []),
        ("--rm=true", {"rm": True}, []),
        ("--rm=false", {"rm": False}, []),
        ("-t=false", {"tty": False}, []),
        ("-it=0", {"interactive": True, "tty": False}, []),
        ("--rm true", {"rm": True}, ["true"]),
        ("-m 64m", {"memory": 64 << 20}, []),
        ("-m64m", {"memory": 64 << 20}, []),
        ("--cpus 1.5", {"cpus": 1.5}, []),
        ("--pids-limit -1", {"pids-limit": -1}, []),
        ("--name a --name b", {"name": "b"}, []),
        ("busybox -it --rm", {}, ["busybox", "-it", "--rm"]),
        ("-i busybox sh -c ls", {"interactive": True}, ["busybox", "sh", "-c", "ls"]),
        ("-- -it", {}, ["-it"]),
        ("-i -- busybox -- ls", {"interactive": True}, ["busybox", "--", "ls"]),
        ("- -i", {}, ["-", "-i"]),
    ],
)
def test_what_docker_would_read(line: str, values: dict[str, object], rest: list[str]) -> None:
    assert read(line) == (values, rest)


def test_flags_may_stand_among_the_arguments_of_other_verbs() -> None:
    assert read("web -i db --rm", interspersed=True) == ({"interactive": True, "rm": True}, ["web", "db"])
    assert read("web -- -i", interspersed=True) == ({}, ["web", "-i"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--nope", "unknown flag: --nope"),
        ("--nope=1", "unknown flag: --nope"),
        ("--nam x", "unknown flag: --nam"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-xit", "unknown shorthand flag: 'x' in -xit"),
        ("-ixt", "unknown shorthand flag: 'x' in -ixt"),
        ("--name", "flag needs an argument: --name"),
        ("-i -e", "flag needs an argument: --env"),
        ("-m 5x", 'invalid argument "5x" for "-m, --memory" flag: invalid size: \'5x\''),
        ("--rm=maybe", 'invalid argument "maybe" for "--rm" flag: it is true or false'),
        ("-t=", 'invalid argument "" for "-t, --tty" flag: it is true or false'),
        ("--cpus two", 'invalid argument "two" for "--cpus" flag: it is a number, such as 1.5'),
        ("--pids-limit 1.5", 'invalid argument "1.5" for "--pids-limit" flag: it is a whole number'),
        ("--pids-limit --5", 'invalid argument "--5" for "--pids-limit" flag: it is a whole number'),
        ("--pids-limit=", 'invalid argument "" for "--pids-limit" flag: it is a whole number'),
    ],
)
def test_what_is_wrong_is_said_in_dockers_words(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert caught.value.message == message
    assert caught.value.hint == "minicontainer run --help shows all options"


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999", "infinity"])
def test_numbers_are_finite(word: str) -> None:
    with pytest.raises(UsageError, match="invalid argument"):
        read(f"--cpus {word}")


@given(
    st.lists(
        st.sampled_from(["-i", "-it", "-e", "-x", "--", "-", "--name", "--rm=0", "-m", "7m", "", "a", "-m9k", "--="])
    )
)
def test_any_command_line_is_read_or_refused(words: list[str]) -> None:
    try:
        _, rest = parse(FLAGS, words, "run", interspersed=False)
    except UsageError:
        return
    assert rest == words[len(words) - len(rest) :]


@pytest.mark.parametrize("line", ["--help", "-i --help", "-i --help busybox", "--rm --help --nope"])
def test_help_is_wanted_where_a_flag_could_stand(line: str) -> None:
    with pytest.raises(HelpWanted):
        read(line)


@pytest.mark.parametrize("line", ["busybox --help", "-- --help", "--name --help", "-e --help busybox"])
def test_help_elsewhere_is_a_word_like_others(line: str) -> None:
    assert "--help" in str(read(line))


def test_reading_leaves_flags_and_words_alone() -> None:
    words = ["-e", "A=1"]
    first = parse(FLAGS, words, "run")[0]
    assert words == ["-e", "A=1"]
    assert parse(FLAGS, [], "run")[0]["env"] == []
    assert first["env"] == ["A=1"]


@pytest.mark.parametrize("flags", [RUN_FLAGS, EXEC_FLAGS], ids=["run", "exec"])
def test_no_option_comes_twice_and_each_is_explained(flags: tuple[Flag, ...]) -> None:
    for names in ([flag.name for flag in flags], [flag.short for flag in flags if flag.short]):
        assert len(names) == len(set(names))
    text = describe(flags)
    assert all(f"--{flag.name}" in text and flag.help in text for flag in flags)


def test_the_help_of_options_is_a_table() -> None:
    flags = (Flag("env", "-e", "Set variables", MANY), Flag("rm", "", "Remove it", SWITCH))
    assert describe(flags) == "  -e, --env list   Set variables\n      --rm         Remove it"
    assert describe(()) == ""


# ── sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("7b", 7),
        ("7B", 7),
        ("1k", 1 << 10),
        ("1K", 1 << 10),
        ("64m", 64 << 20),
        ("64mb", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 m", 64 << 20),
        ("1.5g", 3 << 29),
        ("0.5k", 512),
        ("2T", 2 << 40),
        ("1p", 1 << 50),
        ("1.9", 1),
        ("-1", -1),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "m", "-2", "-1m", "5x", "5mm", "5bm", "1..5", "1.5.5", "1e3", "0x10", ".", "k5", "5 m b", "5m m", "1,5g"],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["32bb", "32ib", "32bib"])
def test_a_unit_is_given_once(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["٣m", "３k"])
def test_digits_are_ascii(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_size(text)


def test_a_size_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size("9" * 400)


# BUG: the kernel and the specification (int64) count bytes in 63 bits: what is larger fails only at the start.
@pytest.mark.parametrize("text", ["9" * 19, "9223372036854775808", "8192p"])
def test_a_size_has_63_bits(text: str) -> None:
    assert parse_size("9223372036854775807") == 2**63 - 1
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.integers(0, 8191), st.sampled_from(["", "b", "k", "m", "g", "t", "p"]), st.sampled_from(["", "b", "ib"]))
def test_whole_numbers_are_exact(number: int, unit: str, ending: str) -> None:
    text = f"{number}{unit}{ending if unit not in ('', 'b') else ''}"
    assert parse_size(text) == parse_size(text.upper()) == number << (10 * "bkmgtp".index(unit or "b"))


@given(st.text("0123456789.-kmgib xé٣", max_size=12))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert size >= -1
