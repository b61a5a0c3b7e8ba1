"""Fixtures of the tests that compare with other tools."""

from __future__ import annotations

from real_engine import busybox, cli, own_cli

__all__ = ["busybox", "cli", "own_cli"]
