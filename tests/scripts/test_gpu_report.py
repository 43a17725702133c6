"""The report of `scripts.gpu`, of any outcome: its verdict first, plain text of 80 columns."""

from __future__ import annotations

import msgspec

from harness.records import machine
from harness.text import wrapped
from scripts.gpu import report
from scripts.gpu.plan import PARTS
from scripts.gpu.record import Facts, Outcome, Row, new

FACTS = Facts(
    commit="0123456789abcdef",
    code="c",
    torch="2.13.0",
    source="/home/me/checkpoints",
    device="cuda",
    card="NVIDIA *H200* <b>|",
    memory_gib=139.8,
)


def reported(**parts: Outcome) -> str:
    record = new(FACTS, True, machine.Machine(), 720.0)
    return report.markdown(msgspec.structs.replace(record, parts=parts))


def outcome(*made: Row) -> Outcome:
    return Outcome(rows={row.name: row for row in made}, ended="whole")


def test_a_report_begins_with_its_verdict_and_is_plain_text_of_80_columns():
    hostile = "a | b\n# c <script> @me " + "x" * 300
    text = reported(
        tests=outcome(Row(name="pytest -m gpu", status="failed", reason=hostile, values={"passed": 3})),
        stages=outcome(
            Row(name="4B, 240 s", status="ok", values={"lm_decode_mbu": 0.554, "wall_s": 9.0}),
            Row(name="4B, 600 s", status="skip", reason="no time: ...", needs_s=40.0),
        ),
        modes=Outcome(ended="cut", reason="no time: needs about 20 s; 3 s were left"),
        peaks=Outcome(ended="broken", reason="its process ended with -11: Segmentation fault"),
        energy=outcome(Row(name="no LM, 60 s", status="n/a", reason="NVML counts no joules on this card")),
    )
    lines = text.splitlines()
    assert lines[0] == r"# acestep-bench on NVIDIA \*H200\* \<b\>\|"
    assert " ".join(text.split("\n\n")[1].split()) == (
        "**Something failed**: 2 failed (tests, peaks); 1 measured (stages); 1 not to be had here (energy);"
        " 1 cut short (modes); 2 not run (calibration, beside). There was no time for all of stages, modes:"
        " started again with `--budget 6m`, it goes on with them."
    )
    assert "|LM decode 4B|  MBU|240 s|    55%|   60%|" in lines
    assert "<script>" not in text and "/home/me" not in text and "\n# c" not in text
    assert all(len(line) <= report.WIDTH for line in lines)
    assert wrapped(text, 10_000)  # harmless to a terminal


LONGEST = {"modes": "compiled, captured", "calibration": "product 8192 x 8192 x 8192"}


def test_a_report_of_every_part_has_80_columns():
    parts = {}
    for part in PARTS:
        columns = (*report.TABLES[part.name], *report.FIGURES.get(part.name, ()))
        values = dict.fromkeys((column.key for column in columns), 12.3456)
        name = LONGEST.get(part.name, "0.6B, 240 s")
        parts[part.name] = outcome(Row(name=name, status="ok", values=values))
    text = reported(**parts)
    assert text.count("\n## ") == 1 + len(PARTS) and max(map(len, text.splitlines())) <= report.WIDTH


def test_a_report_without_failures_says_so():
    assert "\n**Nothing failed**: 1 measured (tests); " in reported(tests=outcome(Row(name="a", status="ok")))
