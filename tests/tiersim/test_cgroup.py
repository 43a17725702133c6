"""Control groups, on a folder that behaves as far as files can. The kernel's part needs a delegated tree."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from places import ZOO

from tiersim import Case, cap, cgroup, run_case
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
    state = SimpleNamespace(parent=parent, kills=True, stuck=False, probes=[])

    class Probe:
        """A process that takes too much; a kernel would end it."""

        returncode = None
        pid = 4711

        def __init__(self, command, stdin):
            self.stopped = False

        def communicate(self, data, timeout):
            if state.stuck:
                raise subprocess.TimeoutExpired("probe", timeout)
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

    def mkdir(self, **how):
        make(self, **how)
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


@pytest.mark.parametrize("how", ["it lives", "it is stuck"])
def test_a_group_whose_limit_does_not_hold_is_not_used(tree, how):
    tree.kills, tree.stuck = False, how == "it is stuck"
    assert Group.create("abc", 700 * MIB) is None
    assert not (tree.parent / "tiersim-abc").exists()


def test_who_is_alone_in_its_group_makes_room_for_others(tree, monkeypatch):
    control, aside = tree.parent / "cgroup.subtree_control", tree.parent / cgroup.ASIDE
    control.write_text("")
    (tree.parent / "cgroup.controllers").write_text("cpu memory\n")
    (tree.parent / "cgroup.procs").write_text(f"{os.getpid()}\n")
    group = Group.create("abc", MIB)
    assert group is not None
    group.remove()
    assert (aside / "cgroup.procs").read_text() == str(os.getpid())
    assert control.read_text() == "+memory"
    control.write_text("memory\n")  # as the kernel says it
    monkeypatch.setattr(cgroup, "own_group", lambda: aside)
    assert Group.create("def", MIB) is not None
    assert [folder.name for folder in tree.parent.glob("tiersim-*")] == ["tiersim-def"]


@pytest.mark.parametrize(("processes", "controllers"), [([1], "cpu memory"), ([], "cpu")])
def test_where_others_are_or_no_memory_is_delegated_nothing_is_moved(tree, processes, controllers):
    (tree.parent / "cgroup.subtree_control").write_text("cpu\n")
    (tree.parent / "cgroup.controllers").write_text(f"{controllers}\n")
    (tree.parent / "cgroup.procs").write_text("\n".join(map(str, [os.getpid(), *processes])))
    assert Group.create("abc", MIB) is None
    assert tree.probes == [] and not (tree.parent / cgroup.ASIDE).exists()


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
    installed, _ = cap.install("host", "cpu", 700 * MIB + 99)  # the kernel holds whole pages
    assert (installed.kind, installed.bytes, installed.verified) == ("cgroup", 700 * MIB, True)


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


@pytest.fixture
def delegated():
    """Skips where the kernel gives us no groups."""
    group = Group.create("trial", 300 * MIB)
    if group is None:
        pytest.skip(
            "no control group is ours alone; try: systemd-run --user --scope -p Delegate=memory pytest"
        )
    group.remove()


def in_the_zoo(kind, **fields):
    case = Case(**{"tier_gb": 0.25, "device": "cpu", "cap": "host", "timeout_s": 120} | fields)
    return run_case(case, worker=(sys.executable, str(ZOO), kind))


@pytest.mark.parametrize("kind", ["fills_memory", "children_fill_memory"])
def test_the_kernel_ends_who_exceeds_a_group(delegated, kind):
    record = in_the_zoo(kind)
    assert (record.status, record.signal) == ("host-oom", "SIGKILL")
    assert "the kernel ended it at 0.25 GiB (control group)" in record.reason
    assert record.peak_bytes is not None and record.peak_bytes <= 256 * MIB  # to the byte: no watchdog is
    assert not list(cgroup.nursery().glob("tiersim-*"))


def test_a_group_is_in_nobodys_way(delegated):
    assert in_the_zoo("ok").status == "ok"
    assert in_the_zoo("kill").status == "crash"  # somebody else's SIGKILL is not the kernel's
    record = run_case(Case(0.7, device="cpu", cap="host", source="synthetic-tiny", duration_s=2, steps=1))
    assert (record.status, record.cap.kind, record.cap.verified) == ("ok", "cgroup", True)
