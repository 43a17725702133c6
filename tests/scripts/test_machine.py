"""Machine facts: stable, and nothing that names the host."""

import json
import os
import platform
import subprocess
import sys

import pytest
from places import ROOT

from scripts import machine


def test_facts_are_strings_that_do_not_drift():
    facts = machine.machine_facts()
    assert {
        "machine",
        "os",
        "arch",
        "cpu",
        "num_cpu",
        "ram",
        "gpu",
        "vram",
        "driver",
        "torch",
        "cuda",
    } == facts.keys()
    assert all(isinstance(value, str) and value for value in facts.values())
    assert facts == machine.machine_facts()
    everything = " ".join(facts.values())
    assert platform.node() not in everything
    assert platform.release() not in everything


def test_a_gpu_names_the_machine(monkeypatch):
    found = {"gpu": "NVIDIA H200", "vram": "141 GiB", "driver": "580.65"}
    monkeypatch.setattr(machine, "gpu_facts", lambda: found)
    facts = machine.machine_facts()
    assert facts["machine"] == "nvidia-h200"
    assert found.items() <= facts.items()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "Intel Xeon Platinum 8481C"),
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763 64-Core Processor"),
    ],
)
def test_the_cpu_without_trademarks_and_clock(line, name, monkeypatch):
    monkeypatch.setattr(machine.Path, "exists", lambda path: True)
    monkeypatch.setattr(machine.Path, "read_text", lambda path: f"processor\t: 0\nmodel name\t: {line}\n")
    assert machine.cpu_model() == name


def test_no_name_is_too_long_for_a_folder(monkeypatch):
    monkeypatch.setattr(machine, "gpu_facts", lambda: dict.fromkeys(("gpu", "vram", "driver"), machine.NONE))
    monkeypatch.setattr(machine, "torch_facts", dict)
    monkeypatch.setattr(machine.Path, "exists", lambda path: True)
    monkeypatch.setattr(machine.Path, "read_text", lambda path: f"model name\t: {'A CPU of renown ' * 40}\n")
    facts = machine.machine_facts()
    assert max(map(len, facts.values())) < 128 and facts["machine"].endswith("-cores")
    assert facts["cpu"].startswith("A of renown A of renown") and facts["cpu"] == facts["cpu"].strip()


@pytest.mark.parametrize(
    ("command", "code"),
    [("-m scripts.machine", 3), ("-m asv machine --yes", 1), ("-m asv run -E checkout --dry-run HEAD^!", 1)],
)
def test_a_home_that_cannot_be_written_is_one_line(command, code):
    """A file in its place, which stops even who may write everywhere."""
    environ = os.environ | {"HOME": os.devnull}
    done = subprocess.run(
        [sys.executable, *command.split()], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code and "Traceback" not in done.stdout + done.stderr
    line = (done.stdout + done.stderr).strip().splitlines()[-1]
    assert (
        f"{os.devnull}/.asv-machine.json: this machine's entry cannot be written: Not a directory; " in line
    )


def test_registering_adds_to_what_asv_knows_and_imports_no_torch(tmp_path, monkeypatch):
    (tmp_path / ".asv-machine.json").write_text('{"version": 1, "other": {"machine": "other"}}')
    monkeypatch.setenv("HOME", str(tmp_path))
    code = "import sys; from scripts.machine import register; print(register(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, torch_imported = done.stdout.split()
    known = json.loads((tmp_path / ".asv-machine.json").read_text())
    assert torch_imported == "False"
    assert {"other", name} <= known.keys()
    assert known[name]["torch"] == machine.torch_facts()["torch"]


@pytest.mark.parametrize(
    ("known", "ours"),
    [
        ([], True),
        (["ours"], True),  # and its facts are today's
        (["mine"], False),  # asv takes the only one there is
        (["host", "other"], False),
        (["other", "another"], True),
    ],
)
def test_asv_knows_the_machine_unless_its_user_named_it(tmp_path, monkeypatch, known, ours):
    facts = machine.machine_facts()
    names = {"ours": facts["machine"], "host": platform.node()}
    entries = {name: {"machine": name, "torch": "of old"} for name in (names.get(one, one) for one in known)}
    file = tmp_path / ".asv-machine.json"
    if known:
        file.write_text(json.dumps({"version": 1} | entries))
    before = file.read_text() if known else None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.name() == (facts["machine"] if ours else next(iter(entries)))
    if ours:
        assert json.loads(file.read_text())[facts["machine"]] == facts
    else:
        assert file.read_text() == before
