"""Control groups, on a folder that behaves as far as files can. The kernel's part needs a delegated tree."""

import signal
from types import SimpleNamespace

import pytest

from tiersim import cap, cgroup
from tiersim.cgroup import Group, own_group

MIB = 2**20


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Our own group with the memory controller given on; `kills` says whether limits hold in it."""
    parent = tmp_path / "user.slice"
    parent.mkdir()
    (parent / "cgroup.procs").write_text("")
    (parent / "cgroup.subtree_control").write_text("cpu memory\n")
    monkeypatch.setattr(cgroup, "own_group", lambda: parent)
    state = SimpleNamespace(parent=parent, kills=True, probes=[])

    class Probe:
        """A process that takes too much; a kernel would end it."""

        returncode = None
        pid = 4711

        def __init__(self, command, stdin):
            self.stopped = False

        def communicate(self, data, timeout):
            (folder,) = parent.glob("tiersim-*")
            state.probes.append((folder / "memory.max").read_text())
            if state.kills:
                (folder / "memory.events").write_text("oom 1\noom_kill 1\n")
            self.returncode = -signal.SIGKILL if state.kills else 0

        def kill(self):
            pass

        wait = kill

    monkeypatch.setattr(cgroup.subprocess, "Popen", Probe)
    make = cgroup.Path.mkdir

    def mkdir(self):
        make(self)
        (self / "memory.events").write_text("oom 0\noom_kill 0\n")

    def rmdir(self):
        for file in self.iterdir():
            file.unlink()
        remove(self)

    remove = cgroup.Path.rmdir
    monkeypatch.setattr(cgroup.Path, "mkdir", mkdir)
    monkeypatch.setattr(cgroup.Path, "rmdir", rmdir)
    return state


def test_a_group_is_proven_with_a_small_limit_and_then_holds_the_cap(tree):
    group = Group.create("abc", 700 * MIB)
    assert group is not None
    folder = tree.parent / "tiersim-abc"
    assert tree.probes == [str(cgroup.PROBE_BYTES)]
    assert (folder / "memory.max").read_text() == str(700 * MIB)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "memory.oom.group").read_text() == "1"
    group.add(123)
    assert (folder / "cgroup.procs").read_text() == "123"
    assert group.peak_bytes is None
    (folder / "memory.peak").write_text("42\n")
    assert group.peak_bytes == 42
    group.remove()
    assert not folder.exists()


def test_a_group_whose_limit_does_not_hold_is_not_used(tree):
    tree.kills = False
    assert Group.create("abc", 700 * MIB) is None
    assert not (tree.parent / "tiersim-abc").exists()


def test_without_the_memory_controller_there_is_no_group(tree):
    (tree.parent / "cgroup.subtree_control").write_text("cpu\n")
    assert Group.create("abc", MIB) is None
    assert tree.probes == []


def test_only_the_kills_of_the_case_count(tree):
    """The proof killed one process of its own."""
    group = Group.create("abc", MIB)
    assert group is not None and not group.killed
    (tree.parent / "tiersim-abc" / "memory.events").write_text("oom_kill 2\n")
    assert group.killed


def test_a_worker_in_its_group_claims_it(tmp_path, monkeypatch):
    folder = tmp_path / "tiersim-abc"
    folder.mkdir()
    (folder / "memory.max").write_text(f"{700 * MIB}\n")
    monkeypatch.setattr(cgroup, "own_group", lambda: folder)
    installed, _ = cap.install("host", "cpu", 700 * MIB)
    assert (installed.kind, installed.verified) == ("cgroup", True)


@pytest.mark.parametrize(("name", "limit"), [("session", str(700 * MIB)), ("tiersim-abc", "max")])
def test_another_group_or_none_at_all_is_not_claimed(tmp_path, monkeypatch, name, limit):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "memory.max").write_text(limit)
    monkeypatch.setattr(cgroup, "own_group", lambda: folder)
    assert cgroup.limit_bytes() is None


def test_our_own_group_is_a_folder_or_nothing():
    found = own_group()
    assert found is None or (found / "cgroup.procs").exists()
