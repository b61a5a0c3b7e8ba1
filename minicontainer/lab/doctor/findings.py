"""What the doctor has found: rows of a table, for a terminal, for a notebook and for programs.

Layer: lab (imports the standard library only).

      ✓ ok       cgroup memory    v2, in /sys/fs/cgroup
      ! limited  disk             1.2 GiB free …
      ✗ missing  overlay          …

    What to type
      disk:
          sudo apt-get clean

A state has a word and a mark; colour only repeats what they say, and only on a terminal.
"""

from __future__ import annotations

import html
import textwrap
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "limited", "missing"]

ESSENTIAL = frozenset(
    {"system", "kernel", "Python", "overlay"}
    | {f"namespace {name}" for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup")}
)
"""The topics without which no container starts. The others cost a feature."""

MARKS: dict[State, str] = {"ok": "✓", "limited": "!", "missing": "✗"}
COLOURS: dict[State, str] = {"ok": "32", "limited": "33", "missing": "31"}  # green, yellow, red: ECMA-48 SGR
_INDENT = 2
_NARROWEST = 60


@dataclass(frozen=True)
class Finding:
    """One row: how it is with one thing that containers or the course need.

    `remedy`: what to type, one or more lines; "" where all is well.
    """

    topic: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All rows. `about` names the machine in a few words."""

    about: str
    findings: tuple[Finding, ...]

    @property
    def can_run(self) -> bool:
        """Whether containers can be started here at all."""
        return not any(finding.state == "missing" and finding.topic in ESSENTIAL for finding in self.findings)

    @property
    def summary(self) -> str:
        """One sentence."""
        wanting = [finding for finding in self.findings if finding.state != "ok"]
        if not self.can_run:
            barred = [finding.topic for finding in wanting if finding.state == "missing" and finding.topic in ESSENTIAL]
            return f"Containers can't start here yet: {', '.join(barred)} must be mended first."
        if not wanting:
            return "Everything works here."
        return f"Containers run here. Limited or missing: {', '.join(finding.topic for finding in wanting)}."

    def remedies(self) -> dict[str, list[str]]:
        """What to type, each once, with the topics that it mends."""
        found: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.remedy:
                found.setdefault(finding.remedy, []).append(finding.topic)
        return found

    def text(self, width: int = 100, colour: bool = False) -> str:
        """The table and the remedies, for a terminal `width` columns wide. Commands are never broken."""
        topics = max(len(finding.topic) for finding in self.findings)
        states = max(len(state) for state in MARKS)
        column = _INDENT + 2 + states + 2 + topics + 2
        room = max(width, _NARROWEST) - column
        lines = [f"minicontainer doctor: {self.about}", ""]
        for finding in self.findings:
            state = f"{MARKS[finding.state]} {finding.state:{states}}"
            if colour:
                state = f"\033[{COLOURS[finding.state]}m{state}\033[0m"
            first, *rest = textwrap.wrap(finding.found, room, break_long_words=False, break_on_hyphens=False) or [""]
            lines.append(f"{' ' * _INDENT}{state}  {finding.topic:{topics}}  {first}".rstrip())
            lines += [" " * column + line for line in rest]
        if self.remedies():
            lines += ["", "What to type"]
        for remedy, mended in self.remedies().items():
            lines += textwrap.wrap(
                ", ".join(mended) + ":", width - _INDENT, initial_indent="  ", subsequent_indent="  "
            )
            lines += [f"      {line}" for line in remedy.splitlines()]
        return "\n".join([*lines, "", *textwrap.wrap(self.summary, width)])

    def __str__(self) -> str:
        return self.text()

    def as_document(self) -> dict[str, Any]:
        """The same for programs, as JSON has it."""
        return {
            "about": self.about,
            "can_run": self.can_run,
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def _repr_html_(self) -> str:
        """The same for a notebook: no colour of its own, so that it is readable on light and on dark pages."""
        left = ' style="text-align: left; vertical-align: top"'  # JupyterLab's tables are flushed right
        whole = left.replace("top", "top; white-space: nowrap")
        rows = []
        for finding in self.findings:
            commands = "<br>".join(f"<code>{html.escape(line)}</code>" for line in finding.remedy.splitlines())
            state = f"{MARKS[finding.state]} {finding.state}"
            if finding.state != "ok":
                state = f"<strong>{state}</strong>"
            words = f"<td{whole}>{state}</td><td{whole}>{html.escape(finding.topic)}</td>"
            rows.append(f"<tr>{words}<td{left}>{html.escape(finding.found)}</td><td{left}>{commands}</td></tr>")
        head = "".join(f"<th{left}>{title}</th>" for title in ("state", "what", "found", "what to type"))
        return (
            f"<p>{html.escape(self.summary)}</p>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
            + "\n".join(rows)
            + f"\n</tbody>\n</table>\n<p><small>{html.escape(self.about)}</small></p>"
        )
