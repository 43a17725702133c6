"""What is shown of a record: a cause is a line, the worst first, in units that are read at a glance."""

import shlex
import sys
from dataclasses import replace

import full_disk
import pytest
from places import ROOT

from acestep.costs.__main__ import main as costs
from acestep.profiler import command as profiler
from scripts import asv_selection
from scripts.gate import __main__ as gate
from scripts.gate import comparison
from scripts.gate.causes import causes, closer, grown, percent, shown
from scripts.gate.markdown import markdown
from scripts.gate.record import PATH, Commit, Fit, Machine, Record, Series, read
from scripts.gate.table import INDENT, WIDTH, table
from subjects.qwen3_tts.__main__ import parser as speech
from subjects.rvc.__main__ import parser as conversion
from tiersim.__main__ import main as tiersim

DIT = (("duration_s", "5"), ("batch", "1"), ("steps", "8"), ("quantization", "none"))
COST = (("stage", "diffuse"), ("duration_s", "30"), ("batch", "4"), ("variant", "base"))
TIMED = Series(
    "dit.TimeDiT.track_diffuse", DIT,
    "diffuse", "DiT", "seconds", "timed", "slower", 0.130, 0.195, 1.5, 1.46, 1.53, 0.04, 16, 16,
)  # fmt: skip
EXACT = Series(
    "costs.TrackCost.track_flop", COST, "diffuse", "DiT", "FLOP", "exact", "slower", 4.94e12, 4.99e12,
    4.99 / 4.94,
)  # fmt: skip
LAUNCHES = replace(EXACT, benchmark="costs.TrackCost.track_launches", unit="launches", base=18282.0,
                   head=18290.0, ratio=18290 / 18282)  # fmt: skip
PEAK = replace(EXACT, benchmark="costs.TrackPredictedPeak.track_peak", stage="peak memory", component="card",
               unit="bytes", params=(("tier_gb", "8"), ("variant", "no-quant")))  # fmt: skip
FUNCTION = replace(TIMED, benchmark="micro.TimeSpan.track_span", params=(("reader", "nobody"),),
                   stage="span", component="function", unit="µs")  # fmt: skip
WALL = replace(
    TIMED, benchmark="generate.TimeGenerate.track_wall", stage="wall", component="pipeline", ratio=1.3
)


def recorded(*series, verdict="slower", fits=(), **fields):
    machine = Machine("cpu", "A CPU", 2, "none", "2.13.0", 0.5, 1.25, None)
    known = Record(
        Commit("a" * 40, "Base"), Commit("b" * 40, "Head"), verdict, machine, "synthetic-tiny", "now", 300,
        1200, 4, 0.1, 0.005, tuple(series), tuple(fits), (), "python -m scripts.gate a b",
    )  # fmt: skip
    return replace(known, **fields)


def test_one_cause_is_one_line_and_the_worst_is_first():
    series = [
        replace(TIMED, verdict="same", ratio=1.0), WALL, LAUNCHES,
        *(replace(TIMED, ratio=1.4 + 0.01 * i, params=(("batch", str(i)),)) for i in range(14)),
        replace(TIMED, stage="vae_decode", component="VAE", verdict="cannot tell", ratio=1.8), EXACT,
    ]  # fmt: skip
    groups = causes(recorded(*series))
    assert [(one.verdict, one.stage, one.kind, len(one.series), grown(one)) for one in groups] == [
        ("slower", "diffuse", "timed", 14, "+46 %"),
        ("slower", "diffuse", "exact", 2, "+1.0 % FLOP, +8 launches"),
        ("slower", "wall", "timed", 1, "+30 %"),  # follows the stages, whatever it is
        ("cannot tell", "vae_decode", "timed", 1, "+80 %"),
        ("same", "diffuse", "timed", 1, "+0.0 %"),
    ]
    assert groups[0].worst.params == (("batch", "13"),)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4.99e12, "FLOP", "4.99 TFLOP"),
        (158e9, "bytes", "158 GB"),
        (999.6e9, "bytes", "1.00 TB"),
        (0.0, "bytes", "0.00 B"),
        (1.5, "seconds", "1.50 s"),
        (0.0412, "seconds", "41.2 ms"),
        (31e-6, "seconds", "31.0 µs"),
        (2139066.0, "launches", "2,139,066 launches"),
        (0.105, "ms/token", "0.10 ms/token"),
        (None, "seconds", "-"),
    ],
)
def test_a_value_is_read_at_a_glance(value, unit, text):
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("change", "text"), [(0.49, "+49 %"), (-0.02, "-2.0 %"), (0.0096, "+1.0 %"), (11.0, "x12"), (None, "")]
)
def test_a_change_has_its_sign(change, text):
    assert percent(change) == text


@pytest.mark.parametrize(("interrupt", "code"), [(KeyboardInterrupt(15), 143), (None, 1)])
def test_an_interrupted_gate_tells_what_it_has_and_ends_as_its_signal_says(
    monkeypatch, tmp_path, capsys, interrupt, code
):
    outcome = recorded(TIMED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gate", "main"])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(asv_selection, "ready", lambda: 0)
    monkeypatch.setattr(comparison, "compare", lambda *_: (outcome, interrupt))
    assert gate.main() == code
    assert read(PATH) == outcome and capsys.readouterr().out == table(outcome)


def test_what_was_measured_is_told_also_where_it_cannot_be_written(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gate", "main"])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(asv_selection, "ready", lambda: 0)
    monkeypatch.setattr(comparison, "compare", lambda *_: (recorded(TIMED), None))
    with full_disk.room(0):
        assert gate.main() == 4
    out, err = capsys.readouterr()
    assert out == table(recorded(TIMED)) and not PATH.exists()
    assert full_disk.REASON in err and str(PATH) in err and err.count("\n") == 1


@pytest.mark.parametrize("form", [table, markdown], ids=["table", "markdown"])
def test_where_only_a_card_is_too_small_nothing_is_called_slower(form):
    """But the verdict, which a slower series is a reason of as well: the control."""
    small = Fit("turbo with LM", 8.0, "fits", "out of memory")
    said = "No series is slower, but a card that was enough no longer is."
    assert said in form(recorded(replace(TIMED, verdict="same"), fits=[small]))
    assert said in form(recorded(fits=[small]))
    assert said not in form(recorded(TIMED, fits=[small]))
    assert said not in form(recorded(replace(TIMED, verdict="same"), verdict="same"))


TASK = replace(TIMED, params=(("task", "cover"), ("duration_s", "5")))
CLOSER = {
    "time": TIMED,
    "cost": EXACT,
    "planning": replace(EXACT, component="LM"),
    "peak": PEAK,
    "task": TASK,
    "timbre": replace(TIMED, params=(("task", "reference"), ("duration_s", "5"))),
    "solver": replace(TIMED, params=(("method", "heun"), ("guidance", "apg"))),
    "text": replace(TIMED, component="LM", params=(("mode", "create"),)),
    "plan": replace(TIMED, component="LM", params=(("duration_s", "5"), ("batch", "2"), ("backend", "pt"))),
    "wall": WALL,
    "stream": replace(TIMED, component="stream", params=(("thinking", "True"), ("chunk_s", "0.25"))),
    "function": FUNCTION,
    "speech": replace(TIMED, component="qwen3_tts", params=(("duration_s", "1.04"), ("batch_size", "1"))),
    "frame": replace(EXACT, component="qwen3_tts", params=(("model", "0.6B-CustomVoice"), ("mode", "eager"))),
    "voice": replace(PEAK, component="qwen3_tts", params=(("tier_gb", "4"), ("model", "0.6B-CustomVoice"))),
    "conversion": replace(TIMED, component="rvc", params=(("duration_s", "1.0"), ("backend", "torch"))),
    "generator": replace(EXACT, component="rvc", params=(("model", "48k"),)),
    "reads": replace(EXACT, benchmark="waits.TrackWaits.track_reads", unit="reads", base=0.0, head=1.0),
}


@pytest.mark.parametrize("name", CLOSER)
def test_the_command_that_looks_closer_is_one(name, monkeypatch, capsys):
    words = shlex.split(closer(CLOSER[name]))
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    if words[:2] == ["python", "profile_inference.py"]:
        assert profiler.main([*words[2:], "--dry-run"], tier_test=lambda _: 0) == 0
    elif words[:3] == ["python", "-m", "tiersim"]:
        assert tiersim([*words[3:], "--dry-run"]) == 0
    elif words[0] == "make":
        assert f"\n{words[1]}: " in (ROOT / "Makefile").read_text()
    elif words[:3] == ["python", "-m", "pytest"]:
        assert (ROOT / words[3]).is_file()
    elif words[2].startswith("subjects."):
        assert {"qwen3_tts": speech, "rvc": conversion}[words[2][9:]]().parse_args(words[3:]).run
    else:
        assert words[:3] == ["python", "-m", "acestep.costs"]
        assert costs([*words[3:], "--list-cards"]) == 0


def test_the_answer_comes_first():
    series = (TIMED, replace(TIMED, verdict="same", ratio=1.0), replace(WALL, verdict="cannot tell"))
    first, second, *_ = table(recorded(*series)).splitlines()
    assert first == "slower: bbbbbbbb (Head) against aaaaaaaa (Base)"
    assert second == "3 series: 1 slower, 1 cannot tell, 1 same; first diffuse, DiT: +50 %."
    same = recorded(replace(TIMED, verdict="same"), verdict="same")
    assert table(same).splitlines()[1] == "1 series: 1 same."
    assert table(recorded(verdict="not measured")).splitlines()[1] == "No series was compared."


def test_what_is_slower_is_said_of_what_was_timed():
    for series, words in {
        (TIMED,): "a time again",
        (TIMED, FUNCTION): "a time, +5.0 % of a function's again",
    }.items():
        assert f"slower is +10 % of {words}" in " ".join(table(recorded(*series)).split())


@pytest.mark.parametrize("command", [f"python -m scripts.gate a b --only '{'x|' * 50}  y'", closer(LAUNCHES)])
def test_a_command_is_a_line_that_can_be_copied(command):
    indented = f"{'again' if 'gate' in command else '':{INDENT}}{command}"
    assert indented in table(recorded(LAUNCHES, command=command)).splitlines()


HOSTILE = "\x1b[2J\u202eevil\r\n" + "wide 夜" * 30


def test_the_table_fits_a_terminal_whatever_a_commit_is_called():
    cannot = replace(
        TIMED, verdict="cannot tell", ratio_high=None, detectable=None, samples_base=3, samples_head=3
    )
    lost = replace(TIMED, verdict="not measured", head=None, ratio=None, reason=f"RuntimeError: {HOSTILE}")
    fit = Fit("no-quant", 8.0, "fits", "out of memory")
    text = table(recorded(
        TIMED, EXACT, LAUNCHES, PEAK, cannot, lost, replace(TIMED, verdict="same"), WALL, fits=[fit],
        head=Commit("b" * 40, HOSTILE, working_tree=True), notes=(HOSTILE,), command=HOSTILE,
    ))  # fmt: skip
    *rest, _ = text.splitlines()  # the last is a command, as what looks closer is
    assert not [line for line in rest if len(line) > WIDTH and not line[INDENT:].startswith("python ")]
    assert "\x1b" not in text and "\u202e" not in text and "\r" not in text
    lines = text.splitlines()
    assert lines[0].startswith("slower: the working tree on bbbbbbbb")
    kinds = ("slower", "not measured", "cannot tell", "same", "fits")
    headings = [line[:INDENT].strip() for line in lines[1:]]
    assert [name for name in headings if name in kinds] == ["slower", "slower", "slower", *kinds]
    joined = " ".join(text.split())
    for part in (
        "diffuse, DiT: +50 %, 1 series 130 ms → 195 ms, x1.50 (1.46 to 1.53), 16 pairs, would have seen from"
        " +4.0 % on in dit.TimeDiT.track_diffuse(5, 1, 8, none) python profile_inference.py",
        "diffuse, DiT: +1.0 % FLOP, +8 launches, 2 series, predicted",
        "(anything), 3 pairs, would have seen no slowdown",
        "8 GB, no-quant: fits → out of memory",
        "load 0.5, then 1.2",
    ):
        assert part in joined, part
