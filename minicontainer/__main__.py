"""The way in: `minicontainer …` and `python -m minicontainer …`.

Layer: above all others. It is the one place that knows both the command line and the classroom side, which don't know
each other: the verbs of `lab` are handed over to it, all others to `cli`.
"""

from __future__ import annotations

import sys

LAB_VERBS = {"doctor": "Check what this machine can do, and how to mend what it can't"}


def main(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    if arguments and arguments[0] in LAB_VERBS:
        from .lab import doctor  # the other verbs don't pay for it

        return doctor.main(arguments[1:])
    from . import cli

    return cli.main(arguments, LAB_VERBS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
