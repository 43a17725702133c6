"""Facts of the machine are read, never guessed, and a missing one stops nothing."""

import subprocess
import sys

import msgspec
import pytest
from fake_nvml import FakeGPU, FakeNVML

from harness.records import machine as facts
from harness.records.machine import GPU, Machine, read, revision, versions


@pytest.fixture
def card(monkeypatch) -> FakeGPU:
    """The one card of a driver; its answers can be replaced."""
    card = FakeGPU()
    FakeNVML(monkeypatch, card)
    return card


def test_a_card_as_the_driver_tells_it(card):
    assert read(environ={}).gpus == (
        GPU(
            name="NVIDIA H200",
            uuid="GPU-1",
            total_bytes=150_754_820_096,
            driver="580.65",
            power_limit_w=699.5,
            sm_clock_mhz=1980,
            memory_clock_mhz=3201,
            temperature_c=41,
            mig=False,
        ),
    )


def test_what_a_card_does_not_tell_is_none(card):
    card.limit_mw = card.sm_mhz = card.memory_mhz = card.temperature_c = card.mig = card.total_bytes = None
    assert read(environ={}).gpus == (GPU(name="NVIDIA H200", uuid="GPU-1", driver="580.65"),)


def test_no_driver_is_no_card(monkeypatch):
    driver = FakeNVML(monkeypatch, FakeGPU())
    driver.countable = False
    assert read(environ={}).gpus == ()
    driver.countable, driver.driver = True, None
    assert read(environ={}).gpus == ()


def test_a_split_card_says_so(card):
    card.mig = True
    assert read(environ={}).gpus[0].mig is True


def test_what_lasts_leaves_out_the_moment(card):
    cool = read(environ={})
    card.temperature_c, card.sm_mhz, card.memory_mhz = 80, 500, 500
    hot = read(environ={})
    assert hot != cool
    assert hot.lasting == cool.lasting
    card.limit_mw = 300_000
    assert read(environ={}).lasting != cool.lasting


def test_the_environment_that_matters_and_no_secret():
    matters = {
        "PYTORCH_CUDA_ALLOC_CONF": "a",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "ACESTEP_SOURCE": "synthetic-tiny",
        "MAX_CUDA_VRAM": "8",
    }
    others = {"HOME": "/root", "ACESTEP_API_KEY": "s3cret", "XCUDA_HOME": "x", "MAX_CUDA_VRAMS": "1"}
    assert read(matters | others).environment == matters


def test_the_processor_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "CPUINFO", tmp_path / "cpuinfo")
    facts.CPUINFO.write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763 \nflags\t: fpu\n")
    assert read(environ={}).cpu == "AMD EPYC 7763"
    facts.CPUINFO.unlink()
    monkeypatch.setattr(facts.platform, "processor", lambda: "")
    assert read(environ={}).cpu is None


def test_this_machine_has_a_passport_that_can_be_written():
    here = read()
    assert here.ram_bytes and here.logical_cores and here.os and here.python
    assert msgspec.json.decode(msgspec.json.encode(here), type=Machine) == here


def test_torch_is_read_where_it_is_loaded_and_never_loaded():
    code = """
import sys
from types import SimpleNamespace as Names
from harness.records.machine import read, versions
assert "cuda" not in versions() and read().threads is None and "torch" not in sys.modules
made_up = Names(
    version=Names(cuda="12.8"), backends=Names(cudnn=Names(version=lambda: None)), get_num_threads=lambda: 3
)
sys.modules["torch"] = made_up
assert versions()["cuda"] == "12.8" and "cudnn" not in versions() and read().threads == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_that_is_not_installed_has_no_version(monkeypatch):
    assert versions()["torch"]
    monkeypatch.setattr(facts, "LIBRARIES", ("no-such-library",))
    assert "no-such-library" not in versions()
    monkeypatch.setattr(facts, "PACKAGE", "no-such-library")
    assert facts.package_version() is None


def git(folder, *arguments):
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_checkout_has_a_commit_and_may_be_dirty(tmp_path):
    git(tmp_path, "init", "-q")
    assert revision(tmp_path) == (None, None)
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "inside").mkdir()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert revision(tmp_path) == (commit, False)
    (tmp_path / "results.json").write_text("{}")
    assert revision(tmp_path) == (commit, False)
    (tmp_path / "code.py").write_text("2")
    assert revision(tmp_path) == (commit, True)
    assert revision(tmp_path / "inside") == (None, None)


def test_an_editors_lock_is_no_code(tmp_path, monkeypatch):
    """Emacs has one beside each file that is being changed: a link to nowhere."""
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    (tmp_path / "harness").mkdir()
    source = tmp_path / "harness" / "a.py"
    source.write_text("1")
    digest = facts.code()
    (tmp_path / "harness" / ".#a.py").symlink_to("me@here.1:2")
    assert facts.code() == digest
    source.write_text("2")
    assert facts.code() != digest


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    assert revision(tmp_path / "missing") == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() == (None, None)
