"""Every entry point on terminals that have few characters, and on text that would take one over.

What is measured is kept, whatever the terminal can show of it.
"""

import io
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fresh import run_each
from places import ROOT
from rich.cells import cell_len

from acestep import __main__ as acestep
from acestep.costs import __main__ as costs
from acestep.profiler import command as profiler
from acestep.profiler import memory_tables, tables
from acestep.profiler.roofline import Ceilings, Load
from acestep.profiler.roofline_card import card as roofline_card
from acestep.result import Counts
from harness import cards
from harness.records import writer as output
from harness.records.memory import Boundary, MemoryByStage
from harness.records.telemetry import Telemetry
from harness.trace.cost import Cost, Refusal, StageCost
from harness.trace.expected import Range
from harness.trace.report import listing
from harness.trace.report import text as cost_report
from harness.trace.stage_costs import Work
from tiersim import __main__ as tiersim

TERMINALS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
HOSTILE = os.fsdecode("夜\u202e\x1b[2J".encode() + b"\xff")  # a folder's name; the last byte is no text
TINY = "--source synthetic-tiny"
COMMANDS = {
    "acestep": f"-m acestep generate {TINY} --dry-run --out {{folder}}",
    "acestep, refused": "-m acestep generate --source {folder}",
    "acestep.costs": "-m acestep.costs --list-cards",
    "qwen3_tts": "-m subjects.qwen3_tts costs --list-cards",
    "qwen3_tts, refused": "-m subjects.qwen3_tts bench --source {folder}",
    "rvc": "-m subjects.rvc costs --list-cards",
    "rvc, refused": "-m subjects.rvc convert {folder}",
    "tiersim": f"-m tiersim {TINY} --dry-run --tiers 8 --boundary",
    "tiersim, refused": "-m tiersim --dry-run --source {folder}",
    "profile": f"{ROOT}/profile_inference.py {TINY} --dry-run",
    "benchmark": f"{ROOT}/profile_inference.py {TINY} --mode benchmark --dry-run",
    "profile, refused": f"{ROOT}/profile_inference.py --source {{folder}}",
    "scripts.summary": "-m scripts.summary",
    "scripts.gate": "-m scripts.gate {folder} HEAD",
    "scripts.gpu": "-m scripts.gpu --device cpu --source {folder}",
}


# What most of them import.
FIRST = """
import os
import acestep.cli.commands, acestep.profiler.command, acestep.resolver, tiersim.command
os.chdir({folder!r})
"""


def started(line: str, folder: Path) -> str:
    """Code that does what the interpreter does that is started with a command line."""
    words = [str(folder) if word == "{folder}" else word for word in line.split()]
    how = "module" if words[0] == "-m" else "path"
    words = words[words[0] == "-m" :]
    argv = f"import os, sys; sys.argv = [*map(os.fsdecode, {[*map(os.fsencode, words)]})]"
    return f"{argv}; import runpy; runpy.run_{how}({words[0]!r}, run_name='__main__')"


@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_entry_point_ends_well_on_any_terminal(tmp_path: Path, terminal: str):
    folder = tmp_path / HOSTILE
    folder.mkdir()
    environ = os.environ | TERMINALS[terminal] | {"PYTHONPATH": str(ROOT)}
    pieces = [started(line, folder) for line in COMMANDS.values()]
    answers = run_each(pieces, FIRST.format(folder=os.fsencode(folder)), environ)
    for name, (code, *texts) in zip(COMMANDS, answers, strict=True):
        out, err = (text.encode(errors="surrogateescape") for text in texts)
        refused = "refused" in name or name.startswith("scripts")
        assert code in ((1, 2, 3) if refused else (0,)), (name, err)
        assert b"Traceback" not in err and b"\x1b" not in out + err, name
        assert err.count(b"\n") == 1 if refused else out, (name, err)
        assert terminal == "cp1252" or (out + err).isascii()
        assert b"\\u2500" not in out and b"\\u2014" not in out, name  # rules and dashes have likenesses


def test_what_is_measured_is_kept_whatever_the_terminal_can_show(tmp_path, monkeypatch):
    """The profiler's whole report, and tiersim's with its files, in a folder whose name is no text."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    monkeypatch.chdir(folder)
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    short = f"{TINY} --duration 10 --inference-steps 1 --thinking --llm-debug --no-warmup"
    profile, tables = folder / "p.json", folder / "t.md"
    assert profiler.main([*short.split(), "--benchmark-output", str(profile)], tier_test=lambda _: 0) == 0
    assert len(output.load(profile)[1]) == 1
    line = f"{TINY} --predict --tiers 8 --duration 10 --steps 1 --variants no-quant"
    assert tiersim.main([*line.split(), "--out", "kept", "--benchmark-output", str(tables)]) == 0
    shown = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert b"results  kept/report.html" in shown and b"\\udcff" in shown and b"\x1b" not in shown
    assert len(output.load(folder / "kept" / "results.json")[1]) >= 1
    for path in (tables, folder / "kept" / "summary.md", folder / "kept" / "report.html"):
        text = path.read_text("utf-8")
        assert "\u202e" not in text and "\x1b" not in text


LONG_CARD = replace(cards.find("h200"), name="NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition")
# As large as anything gets: sixteen songs of ten minutes, planned, in a hundred steps of an XL model.
TOOK_S, PEAK = 12345.678, 123_450_000_000
WORK = Work(10**19, 10**14, 10**14, 9_876_543, 31_234, 10**13, 10**13, 123_456_789, 10**18)
STAGES = (
    "load",
    "vae_encode",
    "lm_prefill",
    "lm_decode",
    "text_encode",
    "condition",
    "diffuse",
    "vae_decode",
)


def largest_cost(stages=STAGES) -> Cost:
    kinds = {"matmul": {"compute": TOOK_S}, "attention": {"compute": 987.65}}
    peaks, expected = (PEAK, PEAK, PEAK + 2**30), Range(TOOK_S, 8 * TOOK_S)
    site = "acestep/models/condition.py ConditionEncoder.forward " * 3
    costs = tuple(
        StageCost(stage, WORK, TOOK_S, "compute", kinds, expected, *peaks, {site: PEAK}, {}, {})
        for stage in stages
    )
    plan = {"batch_size": 16, "duration_s": 600.0}
    environment = {"calibration": "uncalibrated", "torch": "2.13.0", "expected": "efficiencies " * 20}
    refused = Refusal("talker_prefill", "aten::convolution", site, PEAK, PEAK, PEAK)
    return Cost(LONG_CARD, PEAK, plan, environment, costs, (), refused, (refused,), (), {"audio_s": 600.0}, 3)


def tables_of_profiler() -> list[str]:
    boundaries = tuple(
        Boundary(stage=stage, **{f"{name}_bytes": PEAK for _, name in memory_tables.COLUMNS})
        for stage in STAGES
    )
    counts = Counts(lm_prompt_tokens=98_765, lm_prefill_tokens=98_765, lm_decode_tokens=48_000,
                    lm_decode_steps=3_123, audio_codes=3_000)  # fmt: skip
    loads = [Load(stage, 31_234, "token", 9.99e17, 9.99e11) for stage in STAGES]
    took_s = dict.fromkeys(STAGES, TOOK_S)
    telemetry = Telemetry(seconds=1e5, energy_j=1e8, throttling={"thermal slowdown by the hardware": 0.5})
    sizes = MemoryByStage(boundaries=boundaries, rss_source="the kernel's high-water mark")
    return [
        tables.tree(tables.Breakdown(98765.43, 90000.0, 100, 1234.5, 1.0, 900.0, 9.0, 9.0, 12.0, 34.0), 80),
        tables.benchmark_head(80),
        tables.benchmark_row(600, 16, True, 100, *[98765.43] * 4, "HOST-OOM CLAMPED THROTTLED", 99.5, 80),
        tables.llm_debug(counts, 1234.5, 98765.4, 1234.5, 1234.5),
        memory_tables.memory(sizes),
        "\n".join(memory_tables.telemetry(telemetry, 80)),
        roofline_card(loads, LONG_CARD.name, Ceilings(5e18, 5e12, "measured"), took_s),
        roofline_card(loads, LONG_CARD.name, None, took_s),
    ]


TABLES = {
    "profiler": tables_of_profiler,
    "costs": lambda: [cost_report(largest_cost(), {"card": LONG_CARD.name, "plan": "x " * 200})],
    "costs, long names": lambda: [cost_report(largest_cost((*STAGES, "talker_prefill")), {})],
    "cards": lambda: [listing([LONG_CARD])],
}


@pytest.mark.parametrize("command", TABLES)
def test_no_table_is_wider_than_80_columns_and_no_number_touches_another(command: str):
    """Whatever it is of: the largest there is, and names that are as long as any."""
    for text in TABLES[command]():
        assert max(map(cell_len, text.splitlines())) <= 80, text
        assert not re.search(r"\d\.\d+\.\d", text.replace("2.13.0", "")), text  # two in one have two points


def test_numbers_of_a_prediction_are_words_of_their_own():
    """The control: in columns of two decimals these ran into one another."""
    text = cost_report(largest_cost(), {})
    stage = next(line for line in text.splitlines() if line.startswith("diffuse"))
    assert (
        stage.split()[-2:] == ["115.0", "116.0"] and f"{PEAK / 2**30:.2f}{PEAK / 2**30 + 1:.2f}" not in text
    )


COMMANDS_OF_ACESTEP = ("", "generate", "understand", "create", "format", "codes", "write-checkpoint")
HELP = {
    **{f"acestep {name}": (acestep.main, name) for name in COMMANDS_OF_ACESTEP},
    "acestep.costs": (costs.main, ""),
    "tiersim": (tiersim.main, ""),
}


@pytest.mark.parametrize("name", HELP)
def test_help_fits_a_terminal_of_80_columns(name: str, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    main, words = HELP[name]
    with pytest.raises(SystemExit):
        main([*words.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines and not [line for line in lines if len(line) > 80]
