"""A file of somebody else that is where an output goes: refused before anything runs, and left alone."""

from pathlib import Path

import pytest
import torch

import profile_inference
from acestep.costs import __main__ as costs
from acestep.profiler import command as profiler
from harness.trace import predict
from subjects.qwen3_tts import __main__ as tts
from subjects.rvc import __main__ as rvc
from tiersim import __main__ as tiersim

TINY = ("--source", "synthetic-tiny", "--duration", "10")


def profile(arguments: list[str]) -> int:
    return profiler.main(arguments, tier_test=profile_inference.tier_test)


def tts_costs(arguments: list[str]) -> int:
    return tts.main(["costs", *arguments])


def tts_bench(arguments: list[str]) -> int:
    return tts.main(["bench", "--device", "cpu", *arguments])


def rvc_costs(arguments: list[str]) -> int:
    return rvc.main(["costs", *arguments])


def rvc_full(arguments: list[str]) -> int:
    return rvc.main(["full", "--device", "cpu", *arguments])


OUTPUTS = {
    "json": (costs.main, "cost.json", ("--json", "cost.json")),
    "html": (costs.main, "cost.html", ("--html", "cost.html")),
    "summary": (tiersim.main, "out/summary.md", ("--predict", "--out", "out")),
    "page": (tiersim.main, "out/report.html", ("--predict", "--out", "out")),
    "picture": (tiersim.main, "fits.svg", ("--predict", "--svg", "fits.svg")),
    "results": (tiersim.main, "out/results.json", ("--predict", "--out", "out")),
    "results file": (tiersim.main, "kept.csv", ("--predict", "--benchmark-output", "kept.csv")),
    "results, profiler": (profile, "kept.json", ("--benchmark-output", "kept.json")),
    "trace": (profile, "trace.json", ("--trace", "trace.json")),
    "json, qwen3_tts": (tts_costs, "tts.json", ("--json", "tts.json")),
    "trace, qwen3_tts": (tts_bench, "tts-trace.json", ("--trace", "tts-trace.json")),
    "plan, qwen3_tts": (tts_bench, "plan.json", ("--json-output", "plan.json")),
    "json, rvc": (rvc_costs, "rvc.json", ("--json", "rvc.json")),
    "figures, rvc": (rvc_full, "full.json", ("--json", "full.json")),
    "functions": (profile, "outputs/profile-functions.txt", ("--detailed",)),
}
FOREIGN = (
    b'<!doctype html>\n<html lang="en">\n<head>\n<title>Mine</title>\n',
    b'{"predicted": false}\n',
    b"# Notes\n",
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>',
    b"\xff\x00",
)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, monkeypatch, capsys, name):
    main, place, flags = OUTPUTS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "predict", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("ran"))
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    for data in FOREIGN:
        path.write_bytes(data)
        assert main([*TINY, *flags]) == 2
        assert f"{place}' is there and would be lost: " in capsys.readouterr().err
        assert path.read_bytes() == data
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files == [path]


def test_our_own_file_is_replaced(tmp_path: Path, monkeypatch):
    """The control; what an instrument writes has its own in the profiler's tests."""
    monkeypatch.chdir(tmp_path)
    cost, out = (*TINY, "--json", "a.json", "--html", "a.html"), (*TINY, "--predict", "--tiers", "24")
    for _ in range(2):
        assert costs.main(cost) == 0
        assert (
            tiersim.main(
                [*out, "--steps", "1", "--out", "out", "--benchmark-output", "a.csv", "--svg", "a.svg"]
            )
            == 0
        )
