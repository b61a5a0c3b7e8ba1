"""`run -it` and `exec -it` on a real terminal: a shell inside behaves as one outside does."""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from real_engine import eventually, is_alive
from terminals import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = r"/ # (\x1b\[6n)?"  # busybox asks the terminal where its cursor is
INTERRUPT, SUSPEND, END = "\x03", "\x1a", "\x04"


@contextmanager
def on_terminal(cli, *arguments: str, **options) -> Iterator[Terminal]:
    with Terminal([*cli.command, *arguments], env=cli.environment(), **options) as terminal:
        yield terminal


@pytest.fixture(params=["run", "exec"])
def shell(request, cli):
    """A shell in a container, on a terminal: its first process, or a later one."""
    words = ["run", "--rm", "-it", "busybox"] if request.param == "run" else ["exec", "-it", cli.container()]
    with on_terminal(cli, *words, "sh") as terminal:
        terminal.expect(PROMPT)
        yield terminal


def ask(terminal: Terminal, command: str) -> str:
    """What a command prints, in a shell that waits at its prompt."""
    terminal.type(f"{command}; echo end''ed\n")
    found = terminal.expect(r"(?s)end''ed\r\n(.*?)ended\r\n" + PROMPT)
    return found[1].replace("\r\n", "\n")


def test_all_three_streams_are_the_terminal(shell):
    assert ask(shell, "for fd in 0 1 2; do test -t $fd && echo $fd; done") == "0\n1\n2\n"
    assert re.fullmatch(r"/dev/pts/\d+\n", ask(shell, "tty"))
    assert ask(shell, "echo $TERM") == "xterm\n"
    assert ask(shell, "echo hello >/dev/tty") == "hello\n"


def test_the_exit_code(shell):
    shell.type("exit 7\n")
    assert shell.wait() == 7


def test_the_end_of_input(shell):
    shell.type("false\n")
    shell.expect(PROMPT)
    shell.type(END)
    assert shell.wait() == 1


def test_the_size_follows_the_windows(shell):
    eventually(lambda: ask(shell, "stty size") == "24 80\n", "the size that ours has")
    shell.resize(31, 101)
    eventually(lambda: ask(shell, "stty size") == "31 101\n", "its new size")


def test_a_program_is_told_of_a_new_size(shell):
    shell.type("sh -c 'trap \"stty size; exit\" WINCH; echo re''ady; while :; do sleep 0.05; done'\n")
    shell.expect("ready")
    shell.resize(40, 120)
    shell.expect("40 120")


def test_interrupt_reaches_the_process_inside(shell):
    shell.type("trap - INT; sh -c 'trap \"echo cau''ght\" INT; echo re''ady; while :; do sleep 0.05; done'\n")
    shell.expect("ready")
    shell.type(INTERRUPT)
    shell.expect("caught")
    shell.type(INTERRUPT)
    shell.expect("caught")
    assert shell.process.poll() is None
    assert shell.is_raw()


def test_interrupt_ends_a_job_and_not_the_shell(shell):
    shell.type("sh -c 'echo re''ady; exec sleep 4321'\n")
    shell.expect("ready")
    shell.type(INTERRUPT)
    shell.expect(PROMPT)
    assert ask(shell, "echo $?") == "130\n"
    assert ask(shell, "ps | grep '[s]leep 4321'") == ""


def test_job_control(shell):
    ask(shell, "stty tostop")  # so that a job writes in the foreground only
    shell.type("sh -c 'while :; do echo ti''ck; sleep 0.05; done'\n")
    shell.expect("tick\r\n")
    shell.type(SUSPEND)
    shell.expect(r"\[1\]\+\s+Stopped")
    shell.expect(PROMPT)
    assert "Stopped" in ask(shell, "jobs")
    shell.type("fg\n")
    shell.expect("tick\r\n")
    shell.type(INTERRUPT)
    shell.expect(PROMPT)
    assert ask(shell, "jobs") == ""
    assert shell.process.poll() is None


def test_the_shell_leads_the_terminals_session(shell):
    number, session, foreground = ask(shell, "echo $$; cut -d ' ' -f 6,8 /proc/$$/stat").split()
    assert number == session
    assert foreground != "-1"


def test_keys_that_mean_something_to_our_own_terminal_get_through(shell):
    shell.type("stty raw -echo; echo re''ady; head -c 6 | od -An -tx1; stty -raw echo\n")
    shell.expect("ready")
    shell.type("\x03\x1a\x1c\x11\x13\x16")
    shell.expect("03 1a 1c 11 13 16")


def test_much_output_arrives_whole(shell):
    assert ask(shell, "seq 20000") == "".join(f"{n}\n" for n in range(1, 20001))


# ── our own terminal is as it was ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [0, 3])
def test_the_settings_come_back(cli, code):
    with on_terminal(cli, "run", "--rm", "-it", "busybox", "sh") as terminal:
        before = terminal.settings()
        terminal.expect(PROMPT)
        assert terminal.is_raw()
        terminal.type(f"exit {code}\n")
        assert terminal.wait() == code
        assert terminal.settings() == before


def test_the_settings_come_back_when_the_container_is_killed(cli):
    with on_terminal(cli, "run", "-it", "--name", "box", "busybox", "sh") as terminal:
        before = terminal.settings()
        terminal.expect(PROMPT)
        cli.ok("kill", "box")
        assert terminal.wait() == 128 + signal.SIGKILL
        assert terminal.settings() == before


def test_the_settings_come_back_when_the_monitor_is_killed(cli):
    with on_terminal(cli, "run", "-it", "--name", "box", "busybox", "sh") as terminal:
        before = terminal.settings()
        terminal.expect(PROMPT)
        (identifier,) = cli.folders()
        monitor, first = (cli.state_of(identifier)[name][0] for name in ("monitor", "first"))
        os.kill(monitor, signal.SIGKILL)
        assert terminal.wait() == 125
        assert terminal.settings() == before
        assert "monitor was killed" in terminal.screen
        eventually(lambda: not is_alive(first), "the shell dies with its monitor")


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_the_settings_come_back_when_the_command_is_asked_to_end(cli, name):
    """A signal from outside is handed on; the process inside decides."""
    with on_terminal(
        cli, "run", "--rm", "-it", "busybox", "sh", "-c", f'trap "exit 9" {name}; echo up; read x'
    ) as terminal:
        before = terminal.settings()
        terminal.expect("up")
        terminal.kill(signal.Signals[f"SIG{name}"])
        assert terminal.wait() == 9
        assert terminal.settings() == before


def test_the_settings_are_untouched_when_nothing_starts(cli):
    with on_terminal(cli, "run", "--rm", "-it", "busybox", "nosuch") as terminal:
        before = terminal.settings()
        assert terminal.wait() == 127
        assert terminal.settings() == before
        assert "executable file not found" in terminal.screen


# ── with a terminal on one side only ─────────────────────────────────────────────────────────────────────────────────


def test_t_without_a_terminal_is_refused(cli):
    sentence = "the input device is not a TTY"
    assert cli.fails("run", "-it", "busybox", "true", code=1) == sentence
    assert cli.fails("exec", "-it", cli.container(), "true", code=1) == sentence
    assert len(cli.folders()) == 1


def test_without_t_there_is_none_inside(cli):
    script = "for fd in 0 1 2; do test -t $fd && echo $fd; done; tty; echo $TERM; (: </dev/tty) 2>&1"
    with on_terminal(cli, "run", "--rm", "-i", "busybox", "sh", "-c", script) as terminal:
        before = terminal.settings()
        terminal.expect("not a tty\r\n\r\n.*can't open /dev/tty.*\r\n")
        assert terminal.wait() != 0
        assert terminal.settings() == before


def test_interrupt_without_t_is_handed_on(cli):
    script = 'trap "echo caught; exit 5" INT; echo up; while :; do sleep 0.05; done'
    with on_terminal(cli, "run", "--rm", "busybox", "sh", "-c", script) as terminal:
        terminal.expect("up\r\n")
        terminal.type(INTERRUPT)
        terminal.expect("caught\r\n")
        assert terminal.wait() == 5


def test_a_container_in_the_background_may_have_a_terminal(cli):
    identifier = cli.container("sh", "-c", "tty; stty size; cat", options=("-t",))
    eventually(lambda: "/dev/pts/0\r\n" in cli.ok("logs", identifier), "it has a terminal")
    assert cli.inspect(identifier)["State"]["Running"] is True
    assert cli.inspect(identifier)["Config"]["Tty"] is True


def test_the_container_has_a_console(cli):
    with on_terminal(cli, "run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect(PROMPT)
        assert ask(terminal, "ls -l /dev/console | cut -c 1-10") == "crw--w----\n"
        assert ask(terminal, "echo hello >/dev/console") == "hello\n"


def test_another_user_owns_its_terminal(cli):
    with on_terminal(cli, "run", "--rm", "-it", "-u", "33", "busybox", "sh") as terminal:
        terminal.expect(r"/ \$ ")
        terminal.type("echo mi''ne >$(tty)\n")
        terminal.expect("mine\r\n")
