"""How a process is weighed."""

from __future__ import annotations

import os

import pytest

from minicontainer.lab.measure import pss

ROLLUP = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:  9000 kB\nPss:  {} kB\nPss_Dirty:  50 kB\n"


def test_it_is_read_in_bytes(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/smaps_rollup").write_text(ROLLUP.format(1234))
    assert pss(7, str(tmp_path)) == 1234 * 1024


def test_pages_of_ones_own_count_whole():
    before = pss(os.getpid())
    block = bytearray(os.urandom(1 << 20)) * 16
    assert pss(os.getpid()) - before > 12 << 20
    del block


def test_a_process_without_memory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        pss(7, str(tmp_path))
    (tmp_path / "7").mkdir()
    (tmp_path / "7/smaps_rollup").write_text("")
    with pytest.raises(ProcessLookupError):
        pss(7, str(tmp_path))
