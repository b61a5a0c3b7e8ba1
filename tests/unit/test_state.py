"""What is written down about containers: names, drafts, damaged documents, and a monitor that was killed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minicontainer.errors import ContainerNotFound, HostError, IntegrityError, NameInUse
from minicontainer.paths import Paths
from minicontainer.runtime.identity import identity_of
from minicontainer.runtime.lifecycle import CREATED, DAMAGED, EXITED, RUNNING
from minicontainer.runtime.state import Containers, new_state
from minicontainer.trees import remove_tree

A, B = "a" * 64, "ab" + "b" * 62


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A state folder, and a machine without control groups."""
    return Paths(state=str(tmp_path), cgroup=str(tmp_path / "cgroup"))


@pytest.fixture
def containers(paths: Paths) -> Containers:
    return Containers(paths)


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def add(containers: Containers, identifier: str = A, name: str = "web", **changes: object) -> str:
    with containers.draft(identifier) as draft:
        containers.add({**new_state(identifier, name, "busybox", "sha256:1"), **changes}, draft)
    return identifier


def document(containers: Containers, identifier: str = A) -> Path:
    return Path(containers.folder(identifier), "state.json")


# ── names and IDs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_container_is_found_by_name_id_and_prefix(containers: Containers) -> None:
    add(containers)
    for word in ("web", A, "a", "aaaaaaaaaaaa"):
        assert containers.find(word) == A
    assert containers.identifiers() == [A]
    assert containers.load(A)["status"] == CREATED
    assert os.readlink(Path(containers.paths.state, "names", "web")) == f"../containers/{A}"


@pytest.mark.parametrize("word", ["", "nope", "b", "A", A + "a", ".", "..", "/", "../web", "web/", f".{A}", "w"])
def test_who_is_not_there(containers: Containers, word: str) -> None:
    with pytest.raises(ContainerNotFound, match="No such container") as caught:
        containers.find(word)
    assert "ps -a" in caught.value.hint


@pytest.mark.parametrize("word", [".", "..", "x" * 300])
def test_who_is_not_there_when_others_are(containers: Containers, word: str) -> None:
    add(containers)
    with pytest.raises(ContainerNotFound):
        containers.find(word)


def test_a_prefix_of_two_is_asked_for_more_digits(containers: Containers) -> None:
    add(containers, A, "one")
    add(containers, B, "two")
    with pytest.raises(ContainerNotFound, match="multiple IDs found with provided prefix: a") as caught:
        containers.find("a")
    assert caught.value.hint == "give more digits"
    assert containers.find("ab") == B


def test_a_name_comes_before_a_prefix(containers: Containers) -> None:
    add(containers, A, "one")
    add(containers, B, "aa")
    assert containers.find("aa") == B


def test_a_name_is_taken_once(containers: Containers) -> None:
    add(containers)
    with pytest.raises(NameInUse, match=f'"/web" is already in use by container "{A}"') as caught:
        add(containers, B)
    assert "minicontainer rm web" in caught.value.hint
    assert containers.identifiers() == [A]
    assert os.listdir(containers.paths.containers) == [A]


def test_of_many_who_want_a_name_at_once_one_gets_it(paths: Paths) -> None:
    start = threading.Barrier(8)

    def attempt(number: int) -> bool:
        start.wait()
        try:
            add(Containers(paths), f"{number:064x}")
        except NameInUse:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert len(os.listdir(paths.containers)) == 1


def test_a_name_that_leads_nowhere_is_free(containers: Containers) -> None:
    """Who took it was killed before its container was there."""
    names = Path(containers.paths.state, "names")
    names.mkdir()
    (names / "web").symlink_to(f"../containers/{B}")
    with pytest.raises(ContainerNotFound):
        containers.find("web")
    add(containers)
    assert containers.find("web") == A


def test_a_removed_container_frees_its_name_and_leaves_nothing(containers: Containers) -> None:
    add(containers)
    containers.remove(containers.load(A))
    assert os.listdir(containers.paths.containers) == []
    assert os.listdir(Path(containers.paths.state, "names")) == []
    add(containers, B)
    assert containers.find("web") == B


def test_removing_leaves_the_name_to_its_new_owner(containers: Containers) -> None:
    add(containers)
    old = containers.load(A)
    link = Path(containers.paths.state, "names", "web")
    link.unlink()
    add(containers, B)
    containers.remove(old)
    assert containers.find("web") == B


# ── drafts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_draft_is_nobodys_container_yet(containers: Containers) -> None:
    with containers.draft(A):
        assert containers.identifiers() == []
        with pytest.raises(ContainerNotFound):
            containers.find("a")
    assert os.listdir(containers.paths.containers) == []


def test_a_sweep_removes_what_the_dead_left_and_nothing_else(paths: Paths) -> None:
    containers, other = Containers(paths), Containers(paths)
    add(containers, "c" * 64)
    with other.draft(A):
        abandoned = Path(paths.containers, f".{B}")
        (abandoned / "upper/deep").mkdir(parents=True)
        (abandoned / "lock").touch()
        Path(paths.containers, f".{'d' * 64}").mkdir()  # killed before it had a lock
        containers.sweep()
        assert sorted(os.listdir(paths.containers)) == [f".{A}", "c" * 64]


def test_a_killed_commands_draft_is_swept(paths: Paths, checkout: Path) -> None:
    program = (
        "import os, signal, sys; from minicontainer.paths import Paths; from minicontainer.runtime.state import *\n"
        f"Containers(Paths(sys.argv[1])).draft({A!r}).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-S", "-c", program, paths.state], cwd=checkout, check=False)
    assert os.listdir(paths.containers) == [f".{A}"]
    Containers(paths).sweep()
    assert os.listdir(paths.containers) == []


def test_an_empty_state_folder_has_nothing_to_sweep(containers: Containers) -> None:
    containers.sweep()
    assert containers.identifiers() == []


def test_two_drafts_at_once_in_one_process(containers: Containers) -> None:
    """As two threads of a notebook make them: neither lets go of the other's lock."""
    first, second = containers.draft(A), containers.draft(B)
    first.__enter__()
    with second as draft:
        first.__exit__()
        Containers(containers.paths).sweep()
        assert os.path.isdir(draft)
    assert os.listdir(containers.paths.containers) == []


@pytest.mark.parametrize("call", ["symlink", "rename"])
def test_a_full_disk_publishes_nothing(containers: Containers, monkeypatch, call: str) -> None:
    def strike(*_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, strike)
        with pytest.raises((OSError, HostError)):
            add(containers)
    assert os.listdir(containers.paths.containers) == []
    with pytest.raises(ContainerNotFound):
        containers.find("web")
    assert containers.find(add(containers)) == A


# ── the document ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_written_is_loaded(containers: Containers) -> None:
    add(containers, labels={"a": "b"}, exitCode=0)
    state = containers.load(A)
    containers.write({**state, "exitCode": 3})
    assert containers.load(A) == {**state, "exitCode": 3}


def test_loading_who_is_gone(containers: Containers) -> None:
    with pytest.raises(ContainerNotFound):
        containers.load(A)


@pytest.mark.parametrize("content", [b"{}", b'{"id": "x"}', b"[]", b"null", b'"x"'])
def test_a_document_that_is_no_state_is_damaged(containers: Containers, content: bytes) -> None:
    document(containers, add(containers)).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"container aaaaaaaaaaaa has a damaged state\.json") as caught:
        containers.load(A)
    assert caught.value.hint == "minicontainer rm -f aaaaaaaaaaaa"


@pytest.mark.parametrize("content", [b"", b"{", b"\0\0\0\0", b'{"id": "x",', b'{"foreign": 1}'])
def test_a_document_that_is_no_json_or_of_another_kind_is_damaged_too(containers: Containers, content: bytes) -> None:
    document(containers, add(containers)).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"damaged state\.json") as caught:
        containers.load(A)
    assert caught.value.hint == "minicontainer rm -f aaaaaaaaaaaa"


def changed(containers: Containers, changes: dict) -> None:
    """Write some values into the document of a container, as a person might who edits it."""
    add(containers)
    state = json.loads(document(containers).read_bytes())
    document(containers).write_text(json.dumps({**state, **changes}))


@pytest.mark.parametrize(
    "changes", [{"monitor": None}, {"monitor": [1]}, {"monitor": ["x", "y"]}, {"first": None}, {"first": 5}]
)
def test_a_document_with_processes_of_the_wrong_kind_is_damaged(containers: Containers, changes: dict) -> None:
    changed(containers, {"status": RUNNING, **changes})
    with pytest.raises(IntegrityError):
        containers.load(A)


@pytest.mark.parametrize("changes", [{"name": 5}, {"created": None}, {"status": 7}, {"exitCode": "x"}, {"image": []}])
def test_a_document_with_other_values_of_the_wrong_kind_is_damaged(containers: Containers, changes: dict) -> None:
    changed(containers, changes)
    with pytest.raises(IntegrityError):
        containers.load(A)


def test_a_damaged_container_keeps_its_name_to_the_end(containers: Containers) -> None:
    document(containers, add(containers)).write_bytes(b"")
    state = containers.damaged(A, "it is damaged")
    assert (state["id"], state["name"], state["status"], state["error"]) == (A, "web", DAMAGED, "it is damaged")
    containers.remove(state)
    assert containers.identifiers() == []
    assert os.listdir(Path(containers.paths.state, "names")) == []


def test_a_damaged_container_without_a_name_can_be_removed(containers: Containers) -> None:
    document(containers, add(containers)).write_bytes(b"")
    Path(containers.paths.state, "names", "web").unlink()
    containers.remove(containers.damaged(A, "it is damaged"))
    assert os.listdir(containers.paths.containers) == []


# ── the kernel has the truth ──────────────────────────────────────────────────────────────────────────────────────────


def running(containers: Containers, first: list[int], monitor: list[int]) -> None:
    add(containers, status=RUNNING, first=first, monitor=monitor, startedAt="2026-01-01T00:00:00.000000000Z")


def test_a_running_container_is_left_alone(containers: Containers, sleeper) -> None:
    running(containers, identity_of(sleeper.pid), identity_of(os.getpid()))
    before = document(containers).read_bytes()
    assert containers.load(A)["status"] == RUNNING
    assert document(containers).read_bytes() == before


def test_a_killed_monitor_takes_its_container_along(containers: Containers, sleeper) -> None:
    running(containers, identity_of(sleeper.pid), [identity_of(sleeper.pid)[0], 1])
    state = containers.load(A)
    assert (state["status"], state["exitCode"], state["error"]) == (EXITED, 137, "its monitor was killed")
    assert state["finishedAt"] > state["startedAt"]
    assert sleeper.wait(20) == -9
    assert containers.read(A) == state


def test_the_repair_never_kills_a_stranger_with_the_same_number(containers: Containers, sleeper) -> None:
    pid, birth = identity_of(sleeper.pid)
    running(containers, [pid, birth - 1], [pid, birth - 2])
    assert containers.load(A)["status"] == EXITED
    assert sleeper.poll() is None


@pytest.mark.parametrize("status", [CREATED, EXITED])
def test_who_does_not_run_needs_no_monitor(containers: Containers, status: str) -> None:
    add(containers, status=status, exitCode=7)
    assert (containers.load(A)["status"], containers.load(A)["exitCode"]) == (status, 7)


def test_a_container_that_is_removed_while_it_is_loaded_is_gone(containers: Containers, monkeypatch) -> None:
    running(containers, [0, 0], [0, 0])
    real_lock = containers.lock

    def lock(identifier: str):
        remove_tree(containers.folder(identifier))
        return real_lock(identifier)

    monkeypatch.setattr(containers, "lock", lock)
    with pytest.raises(ContainerNotFound):
        containers.load(A)


# ── removing trees ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tree_is_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").touch()
    (tree / "link").symlink_to(outside)
    (tree / "a/dangling").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "precious").exists()


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "none"))


AS_NOBODY = """
import os, sys
from minicontainer.trees import remove_tree
if os.geteuid() == 0:
    os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
tree = sys.argv[1] + "/tree"
os.makedirs(tree + "/work/work")
os.chmod(tree + "/work/work", 0)
if sys.argv[2:]:
    os.makedirs(tree + "/upper/closed/deeper")
    os.chmod(tree + "/upper/closed/deeper", 0o500)
    os.chmod(tree + "/upper/closed", 0)
remove_tree(tree)
"""


def removed_by_a_normal_user(checkout: Path, folder: str, *more: str) -> str:
    command = [sys.executable, "-S", "-c", AS_NOBODY, folder, *more]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False).stderr


@pytest.fixture
def open_folder(paths: Paths):
    """A folder in which a normal user may work: pytest's own are closed to others."""

    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o777)
    yield folder
    shutil.rmtree(folder)


def test_a_normal_user_can_remove_overlays_closed_folder(checkout: Path, open_folder: str) -> None:
    assert removed_by_a_normal_user(checkout, open_folder) == ""
    assert os.listdir(open_folder) == []


def test_a_normal_user_can_remove_closed_folders_with_something_inside(checkout: Path, open_folder: str) -> None:
    """What a container leaves that did `mkdir -p d/e; chmod 0 d`: os.walk by itself doesn't come back to it."""
    assert removed_by_a_normal_user(checkout, open_folder, "closed") == ""
    assert os.listdir(open_folder) == []
