"""What a killed benchmark leaves is removed by the next one, what belongs to a living one isn't."""

from __future__ import annotations

import os

from minicontainer.lab.bench.scene import lock, sweep


def test_only_what_nobody_holds_is_swept(tmp_path):
    for name in ("minicontainer-bench-dead", "minicontainer-bench-alive", "other"):
        (tmp_path / name / "state").mkdir(parents=True)
    (tmp_path / "minicontainer-bench-file").touch()
    (tmp_path / "minicontainer-bench-link").symlink_to(tmp_path / "other")
    held = lock(str(tmp_path / "minicontainer-bench-alive"))
    try:
        sweep(str(tmp_path))
    finally:
        os.close(held)
    left = {"minicontainer-bench-alive", "minicontainer-bench-file", "minicontainer-bench-link", "other"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert (tmp_path / "other/state").is_dir()


def test_a_lock_is_given_once_and_ends_with_its_descriptor(tmp_path):
    first = lock(str(tmp_path))
    assert lock(str(tmp_path)) == -1
    os.close(first)
    second = lock(str(tmp_path))
    assert second >= 0
    os.close(second)
    assert lock(str(tmp_path / "nowhere")) == -1
