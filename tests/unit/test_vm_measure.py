"""How a process is weighed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.lab.measure import pss

CHECKOUT = Path(__file__).parents[2]
ROLLUP = "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:  9000 kB\nPss:  {} kB\nPss_Dirty:  50 kB\n"


def test_it_is_read_in_bytes(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/smaps_rollup").write_text(ROLLUP.format(1234))
    assert pss(7, str(tmp_path)) == 1234 * 1024


def test_pages_of_ones_own_count_whole():
    # In a process of its own: this one has other things to do with its memory.
    program = "from minicontainer.lab.measure import pss; import os; before = pss(os.getpid()); "
    program += "block = bytearray(os.urandom(1 << 20)) * 16; print(pss(os.getpid()) - before)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=CHECKOUT).stdout
    assert int(shown) > 12 << 20


def test_a_process_without_memory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        pss(7, str(tmp_path))
    (tmp_path / "7").mkdir()
    (tmp_path / "7/smaps_rollup").write_text("")
    with pytest.raises(ProcessLookupError):
        pss(7, str(tmp_path))
