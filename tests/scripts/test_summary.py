"""The closing table: everything from records, sane at 80 columns."""

import json
import re
import sys

import pytest

from benchmarks._matrix import STAGES, tier_cells, timing_cells
from scripts import summary
from scripts.gate import __main__ as gate

ORDERS = "\x1b[2J\u202e[red]"
COMMIT = "0123456789abcdef"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Records as a GPU's run of the guide's matrix leaves them, some cells in trouble."""
    monkeypatch.setattr(summary, "RECORDS", tmp_path)
    monkeypatch.setattr(summary, "_head", lambda: (COMMIT, False))
    monkeypatch.setattr(summary, "SITE", tmp_path / "index.html")
    summary.SITE.touch()
    stages = dict.fromkeys(STAGES, 12.3456)
    run = {"wall_s": 123.456, "stages_s": stages}
    heard = {
        "first_code_s": None,
        "latents_s": 88.8,
        "first_audio_s": 99.9,
        "gap_worst_s": 7.7,
        "underruns": 3,
    }
    done = {"status": "ok", "runs": [run] * 3, "counts": {"lm_prefill_tokens": 100, "lm_decode_tokens": 1200}}
    timing = {cell.name: done for cell in timing_cells("synthetic-full")}
    streams = [name for name in timing if name.startswith("stream ")]
    timing |= dict.fromkeys(streams, done | {"runs": [run | heard] * 3})
    growth = {
        "exponent": [1.0234, 0.9871, 1.0512],
        "slope": [0.12345, 0.1201, 0.1267],
        "intercept": [1e-4, -1e-3, 0.002],
    }
    timing["scaling component=vae_decode"] = done | {"growth": growth}
    timing["scaling component=mel"] = {"status": "unsupported", "reason": "this commit's engine has no mel"}
    timing["plan duration_s=240 batch=4 thinking=True"] = {"status": "failed", "reason": "CUDA out of memory"}
    memory = {
        cell.name: {"status": "oom"} if cell["tier_gb"] < 8 else {"status": "ok", "peak_bytes": 3 * 2**30}
        for cell in tier_cells("synthetic-full")
    }
    environment = {
        "source": "synthetic-full", "device": "cuda", "device_name": "NVIDIA H200", "dtype": "bfloat16",
        "lm": "acestep-5Hz-lm-0.6B", "lm_backend": "pt", "torch": "2.13.0", "threads": 16,
    }  # fmt: skip
    spoken = {
        "request subject=a_tts duration_s=1.04": done,
        "streamed subject=a_tts chunk_frames=4": done | {"runs": [run | heard] * 3},
        "component subject=a_tts size=1": {"status": "failed", "reason": "no such size"},
    }
    for kind, records in (("timing", timing), ("memory", memory), ("subject", spoken)):
        header = {"status": "ok", "environment": environment, "repeats": 3, "planned": list(records)}
        lines = [header, *({"cell": name} | record for name, record in records.items())]
        text = "\n".join(json.dumps(line) for line in lines)
        (tmp_path / f"20260101T000000-1-{COMMIT[:12]}-{kind}.jsonl").write_text(text)


def test_the_table(written, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert summary.main([]) == 1  # one cell failed
    shown = capsys.readouterr().out
    for expected in (
        COMMIT[:12], "synthetic-full", "NVIDIA H200", "bfloat16", "vae_decode", "12,345.6", "123,456.0",
        "0.5144", "88,800.0", "99,900.0", "7,700.0", "240 s, 0.25 s", "97",
        "1.02 [0.987, 1.05]", "123 [120, 127]", "0.1 [-1, 2]",
        "3,072", "oom", f"site     {summary.SITE.resolve().as_uri()}  (its explorer: make preview)",
        "failed: plan duration_s=240 batch=4 thinking=True: CUDA out of memory",
        "request a_tts 1.04", "streamed a_tts 4", "failed: component subject=a_tts size=1: no such size",
    ):  # fmt: skip
        assert expected in shown, expected
    answer = " ".join(shown.partition("\n\ncommit ")[0].split())
    assert re.fullmatch(
        r"\d+ cells measured on NVIDIA H200, 2 failed, \d+ oom, 1 unsupported\."
        r" A song of 240 s: 10% of its time is \w+\.",
        answer,
    )
    tables = [line for line in shown.splitlines() if not line.startswith(("failed", "site"))]
    assert max(map(len, tables)) <= 80
    assert "…" not in shown


def test_what_was_not_measured_has_no_table(written, capsys):
    summary.main([])
    titles = ("planning: median", "Planning: tokens/s", "Streaming one item")
    shown = capsys.readouterr().out
    assert all(title in shown for title in titles)  # the control
    for path in summary.RECORDS.glob("*-timing.jsonl"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], *(line for line in lines if '"vae ' in line)]))
    summary.main([])
    shown = capsys.readouterr().out
    assert not any(title in shown for title in titles)


def test_where_there_is_no_site_it_says_what_writes_it(written, capsys):
    summary.SITE.unlink()
    summary.main([])
    assert capsys.readouterr().out.endswith("\nsite     none; make site writes it\n")


def test_a_worker_of_a_subject_that_ended_at_once_is_told_until_another_has_measured(written):
    failed = {"status": "failed", "reason": "killed"}
    for second, header, told in ((2, failed, True), (3, {"status": "ok"}, False)):
        cells = (
            [] if told else [{"cell": "request subject=a_tts duration_s=1.04", "status": "ok", "runs": []}]
        )
        path = summary.RECORDS / f"20260101T00000{second}-1-{COMMIT[:12]}-subject.jsonl"
        path.write_text("\n".join(map(json.dumps, [header, *cells])))
        records = summary.of_subjects(COMMIT)
        assert ("subject" in records) == told and len(records) == 3 + told


@pytest.mark.parametrize("dirty", [True, False])
def test_that_uncommitted_files_were_not_measured_is_told(written, monkeypatch, capsys, dirty):
    monkeypatch.setattr(summary, "_head", lambda: (COMMIT, dirty))
    summary.main([])
    assert (f"commit   {COMMIT[:12]}{summary.UNCOMMITTED}\n" in capsys.readouterr().out) is dirty


def test_records_that_were_cut_are_a_failure_and_the_other_tables_are_there(written, capsys):
    path = summary.RECORDS / f"20260101T000002-1-{COMMIT[:12]}-subject.jsonl"
    path.write_text('{"status": "ok", "environ')
    assert summary.main([]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert f"failed: subject: {summary.UNREAD['reason']}" in shown and "request a_tts 1.04" in shown


def test_nothing_measured_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(summary, "RECORDS", tmp_path)
    monkeypatch.setattr(summary, "_head", lambda: (COMMIT, False))
    assert summary.main([]) == 1
    assert "run make bench" in capsys.readouterr().out


@pytest.mark.parametrize("git", ["absent", "no repository"])
@pytest.mark.parametrize("command", [lambda: summary.main([]), gate.main], ids=["summary", "gate"])
def test_without_a_commit_it_is_one_line_that_says_what_is_missing(
    tmp_path, monkeypatch, capsys, git, command
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gate", "main", "HEAD"])
    if git == "absent":
        monkeypatch.setenv("PATH", str(tmp_path))
    code = command()
    out, err = capsys.readouterr()
    assert code == 3 and not out and err.count("\n") == 1
    assert "git: " in err or "not a git repository" in err


def test_what_a_record_says_gives_no_orders(written, capsys):
    """A record is a file, and asv's records may come from another machine."""
    for path in summary.RECORDS.iterdir():
        text = path.read_text()
        path.write_text(
            text.replace("NVIDIA H200", json.dumps(ORDERS)[1:-1]).replace('"oom"', json.dumps(ORDERS))
        )
    assert summary.main([]) == 1
    shown = capsys.readouterr().out
    assert r"\x1b[2J\u202e" in shown and "[red]" in shown and shown.replace("\n", "").isprintable()
