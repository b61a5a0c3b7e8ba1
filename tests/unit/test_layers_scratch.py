"""Folders for work in progress: who lives keeps his, and the dead one's are cleaned up."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from minicontainer.errors import HostError
from minicontainer.layers import Scratch, scratch
from minicontainer.trees import remove_tree

HOLD = """
import subprocess, sys, time
from minicontainer.layers import Scratch
with Scratch(sys.argv[1]) as scratch:
    open(scratch.path + "/half", "w").close()
    child = subprocess.Popen(["sleep", "60"], pass_fds=[scratch.fd]) if len(sys.argv) > 2 else None
    print(scratch.path, child and child.pid, flush=True)
    time.sleep(60)
"""


def holder(parent, *options):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(parent), *options], stdout=subprocess.PIPE, text=True)
    path, child = process.stdout.readline().split()
    return process, path, child


def stop(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_it_is_there_for_the_block_and_gone_after_it(tmp_path):
    with Scratch(str(tmp_path)) as mine:
        os.makedirs(mine.path + "/a/b")
    assert os.listdir(tmp_path) == []


def test_an_error_leaves_nothing_either(tmp_path):
    def work() -> None:
        with Scratch(str(tmp_path)) as mine:
            os.mkdir(mine.path + "/a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do(tmp_path, code):
    def work() -> None:
        with Scratch(str(tmp_path)):
            raise OSError(code, "full")

    with pytest.raises(HostError, match=f"no space left on the disk that holds {tmp_path}") as caught:
        work()
    assert "free some space" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_a_living_ones_folder_stays_and_a_dead_ones_goes(tmp_path):
    process, path, _ = holder(tmp_path)
    try:
        with Scratch(str(tmp_path)):
            assert os.listdir(path) == ["half"]
    finally:
        stop(process)
    assert os.path.exists(path)
    with Scratch(str(tmp_path)):
        assert not os.path.exists(path)


def test_a_child_of_the_dead_one_keeps_the_folder(tmp_path):
    process, path, child = holder(tmp_path, "with a child")
    try:
        stop(process)
        with Scratch(str(tmp_path)):
            assert os.path.exists(path)
    finally:
        os.kill(int(child), signal.SIGKILL)
    while os.path.exists(path):
        with Scratch(str(tmp_path)):
            pass


def test_what_another_took_away_between_making_and_locking_is_made_again(tmp_path, monkeypatch):
    real, seen = scratch._claim, []

    def claim(path: str) -> int:
        if not seen:
            os.rmdir(path)
        seen.append(path)
        return real(path)

    monkeypatch.setattr(scratch, "_claim", claim)
    with Scratch(str(tmp_path)) as mine:
        assert os.path.isdir(mine.path)
    assert len(set(seen)) == 2


def test_a_folder_that_went_while_it_was_being_locked_isnt_claimed(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.setattr(scratch.fcntl, "flock", lambda *_: os.rmdir(tmp_path / "gone"))
    assert scratch._claim(str(tmp_path / "gone")) == -1


def test_other_names_are_left_alone(tmp_path):
    (tmp_path / "layer").mkdir()
    with Scratch(str(tmp_path)):
        pass
    assert os.listdir(tmp_path) == ["layer"]


def test_a_mount_below_is_not_entered(tmp_path, monkeypatch):
    (tmp_path / "tree/mounted").mkdir(parents=True)
    (tmp_path / "tree/mounted/precious").touch()
    real = os.lstat

    def lstat(path):
        status = real(path)
        fields = list(status)
        fields[2] += str(path).endswith("mounted")  # st_dev
        return os.stat_result(fields)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(OSError, match="mount point"):
        remove_tree(str(tmp_path / "tree"))
    assert (tmp_path / "tree/mounted/precious").exists()
