"""`python -m tiersim`: refuses early, prints a row per case, and its exit code means something."""

import errno
import json
import re
from dataclasses import replace
from functools import partial

import pytest
from tier_records import bare_record, record

import tiersim.__main__ as main
from acestep import resolver
from acestep.request import MAX_BATCH
from harness import files
from harness.memory import GIB
from harness.records import writer as output
from harness.tiers import BATCHES
from tiersim import Case, command, results, suggest
from tiersim.case import VARIANTS

TINY = "--source synthetic-tiny --cap virtual --duration 10"


@pytest.fixture
def outcomes(monkeypatch):
    """Run nothing: each case's record gets the fields that `outcomes` has for its tier. Gives what ran."""
    chosen, asked = {}, []

    def pretend(plans, *, on_record, **_):
        for plan in plans:
            case = plan.requested
            asked.append(case)
            fields = chosen.get(case.tier_gb, {})
            fields = fields(case) if callable(fields) else fields
            status = "skip" if plan.skip else "ok"
            made = record(case.tier_gb, status, 3.0, lm=case.lm, key=plan.key)
            names = ("quantization", "offload_to_cpu", "offload_dit_to_cpu")
            ran = {name: getattr(plan.settings, name) for name in names}
            made = replace(made, requested=case, effective=plan.effective, **ran)
            on_record(replace(made, **fields))

    monkeypatch.setattr(command.pool, "run_plans", pretend)
    chosen["ran"], chosen["pretend"] = asked, pretend
    return chosen


def go(line):
    return main.main(f"{line} {TINY}".split())


@pytest.mark.parametrize(
    ("by_tier", "code"),
    [
        ({}, 0),
        ({6: {"status": "skip"}}, 0),
        ({6: {"status": "oom"}}, 1),
        ({6: {"status": "timeout"}}, 1),
        ({6: {"status": "error", "exit_code": 3}, 4: {"status": "oom"}}, 3),
    ],
)
def test_exit_codes(outcomes, capsys, by_tier, code):
    outcomes.update(by_tier)
    assert go("--tiers 6 4 6.0") == code
    rows = capsys.readouterr().out.splitlines()[4:6]
    assert [row[2:6] for row in rows] == ["4 GB", "6 GB"]


def test_the_default_is_the_guides_seven_tiers(outcomes, capsys):
    assert go("") == 0
    assert [case.tier_gb for case in outcomes["ran"]] == [4, 6, 8, 12, 16, 20, 24]
    assert capsys.readouterr().out.splitlines()[0] == "TIER TEST RESULTS"


def test_memory_that_runs_out_at_the_boundary_is_what_was_looked_for(outcomes, capsys):
    outcomes[8] = lambda case: {"status": "oom"} if case.variant == "no-offload" else {}
    assert go("--boundary --tiers 6 8 20") == 0
    said = capsys.readouterr().out
    assert "BOUNDARY ANALYSIS" in said and "last failure: 8 GB (RTX 4060)" in said
    outcomes[8] = lambda case: {"status": "oom"} if case.batch_size > 4 else {}
    assert go("--tier-batch-boundary --tier-with-lm --tiers 8") == 0
    assert "BATCH BOUNDARY SUMMARY" in (said := capsys.readouterr().out)
    assert "4, found 4     2, found 4     OK" in said  # nothing is raised on one run, and on tiny weights
    outcomes[8] = lambda case: {"status": "oom"} if case.batch_size > 2 else {}
    assert go("--batch-boundary --tiers 8") == 1  # tier4 promises four
    assert "no_lm: 4→2" in capsys.readouterr().out


def test_what_a_tier_does_not_promise_may_run_out(outcomes):
    outcomes[8] = {"status": "oom"}
    assert go("--tiers 8") == 1
    assert go("--tiers 8 --no-limits --batch-size 4") == 1
    assert go("--tiers 8 --no-limits --batch-size 5") == 0
    assert (
        main.main("--tiers 8 --no-limits --source synthetic-tiny --cap virtual --duration 400".split()) == 0
    )


def test_flags_reach_the_case(outcomes):
    line = "--tiers 7.5 --tier-with-lm --batch-size 2 --inference-steps 16 --seed 7 --device cpu --no-limits"
    line += " --lm-backend pt --case-timeout 60 --tier-skip-compile --variants no-quant --repeats 2"
    assert go(line) == 0
    first, second = outcomes["ran"]
    assert first == Case(
        7.5,
        True,
        "synthetic-tiny",
        "cpu",
        10.0,
        2,
        16,
        7,
        60.0,
        "no-quant",
        "virtual",
        True,
        True,
        lm_backend="pt",
    )
    assert second == replace(first, repeat=1)


def test_a_dry_run_lists_and_runs_nothing(outcomes, capsys):
    assert go("--dry-run --boundary --with-lm --tiers 6 8") == 0
    said = capsys.readouterr().out
    assert said.startswith("TIER TEST CASES") and "SKIP not tried below 8 GB" in said
    assert not outcomes["ran"]


def test_a_dry_run_lists_the_batches_as_well(outcomes, capsys):
    assert go("--list --batch-boundary --tiers 6 8 --batch-sizes 4 1") == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()[4:-1]]
    assert [(size, lm, batch) for size, _, _, _, _, lm, _, batch, *_ in listed] == [
        *(("6", "—", "1"), ("8", "—", "1"), ("8", "0.6B", "1")),
        *(("6", "—", "4"), ("8", "—", "4"), ("8", "0.6B", "4")),
    ]


def test_the_search_for_a_batch_ends_where_a_request_does_and_says_so(outcomes, capsys, tmp_path):
    assert (
        tuple(2**power for power in range(7)) == BATCHES and BATCHES[-1] == MAX_BATCH == suggest.BATCHES[-1]
    )
    outcomes[12] = lambda case: {"status": "oom"} if case.lm and case.batch_size > 16 else {}
    assert go(f"--batch-boundary --tiers 12 --out {tmp_path}") == 0
    assert {case.batch_size for case in outcomes["ran"]} == {*BATCHES}
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("  12 GB (RTX 3060)  ≥"))
    assert row.split()[4:] == ["≥", "64", "3.0GB", "16", "3.0GB"]
    assert "12 GB (RTX 3060): largest batch ≥ 64, with LM 16" in said
    assert "batches of 1 2 4 8 16 32 64" in said
    assert "largest batch ≥ 64" in (tmp_path / "summary.md").read_text()
    assert "largest batch ≥ 64" in (tmp_path / "report.html").read_text()


def test_the_files_do_not_depend_on_the_terminal(outcomes, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert go(f"--tiers 8 --boundary --ascii --out {tmp_path}") == 0
    narrow = capsys.readouterr().out
    assert "-" * 39 not in narrow and "=" * 41 not in narrow
    assert "─" * 78 in (tmp_path / "summary.md").read_text()
    assert "─" * 78 in (tmp_path / "report.html").read_text()


def test_each_case_is_resolved_once(monkeypatch):
    resolved, ran = [], []

    def count(*request, resolve=resolver.resolve):
        resolved.append(request)
        return resolve(*request)

    def run(plan, **_):
        ran.append(plan)
        return replace(bare_record(plan.requested), key=plan.key)

    monkeypatch.setattr(resolver, "resolve", count)
    monkeypatch.setattr(command.pool, "run_plans", partial(command.pool.run_plans, run=run))
    assert go("--boundary --batch-boundary --batch-sizes 1 2 --tiers 6 8") == 0
    variants, rungs = 2 * len(VARIANTS), 2 * 3  # two cards, of which one has room for a language model
    assert len(resolved) == variants + rungs
    assert 0 < len(ran) == len({plan.key for plan in ran}) < variants + rungs


def test_the_fit_matrix_is_a_picture_and_leads_to_the_cases_of_the_page(outcomes, capsys, tmp_path):
    picture, folder = tmp_path / "fits.svg", tmp_path / "out"
    outcomes[8] = lambda case: {"status": "oom"} if case.variant == "no-offload" else {}
    line = f"--matrix --tiers 6 8 --dit acestep-v15-turbo --svg {picture} --out {folder}"
    assert go(line) == 0
    assert f"picture  {picture}" in capsys.readouterr().out
    assert {case.lm for case in outcomes["ran"]} == {False, True}
    drawn, page = picture.read_text(), (folder / "report.html").read_text()
    cells = 2 * 2 * len(VARIANTS)  # cards, without and with a language model
    assert drawn.count('<g class="cell ') == page.count('<g class="cell ') == cells
    assert drawn.count(">does not fit</text>\n</g>") == 2 + 1  # and what the colour means
    assert "What fits which card, measured" in drawn and "href" not in drawn
    cases = re.findall(r'href="(#case\d+)">\n<g', page)
    assert len(cases) == cells - len(VARIANTS)  # no language model on 6 GB
    assert set(cases) == {f"#case{number}" for number in range(len(outcomes["ran"]))}
    assert all(f'id="{case[1:]}"' in page for case in cases)


def test_strict_refuses_what_a_tier_would_clamp(outcomes, capsys):
    assert go("--strict --tiers 4 --batch-size 2") == 2
    assert "tiersim: --batch-size: 2 is over the limit of 4 GB (GTX 1650)" in capsys.readouterr().err
    assert go("--tiers 4 --batch-size 2") == 0


def test_a_folder_is_gone_on_from_and_holds_everything(outcomes, capsys, tmp_path):
    folder = tmp_path / "out"
    outcomes[8] = {"status": "crash", "reason": "<script>"}
    assert go(f"--tiers 6 8 --out {folder}") == 1
    assert {path.name for path in folder.iterdir()} == {
        *("cases", "report.html", "results.json", "summary.md"),
    }
    assert "<script>" not in (folder / "report.html").read_text()
    assert "| tier2 |" in (folder / "summary.md").read_text()
    capsys.readouterr()
    del outcomes[8], outcomes["ran"][:]
    assert go(f"--tiers 6 8 --out {folder}") == 0
    assert [case.tier_gb for case in outcomes["ran"]] == [8]
    assert "6 GB" in capsys.readouterr().out
    assert len(output.load(folder / "results.json")[1]) == 2
    assert go(f"--tiers 6 8 --out {folder} --rerun all") == 0
    assert len(outcomes["ran"]) == 3


def test_nothing_it_prints_gives_orders_to_a_terminal(outcomes, capsys, tmp_path):
    rude = "a\x1b[2J\u202egnp.exe"
    outcomes[8] = {"status": "crash", "reason": rude, "log": rude, "tier": rude}
    assert go(f"--tiers 8 --boundary --out {tmp_path / rude}") == 1
    told = "".join(capsys.readouterr())
    assert told.count(r"\x1b[2J\u202egnp.exe") > 2 and told.replace("\n", "").isprintable()


def test_what_is_there_when_a_run_is_interrupted_is_kept(outcomes, capsys, tmp_path):
    def interrupt(case):
        raise KeyboardInterrupt

    outcomes[8] = interrupt
    assert go(f"--tiers 6 8 --out {tmp_path}") == 130
    assert "1 of 1 cases fit" in capsys.readouterr().out
    assert "| tier2 |" in (tmp_path / "summary.md").read_text()
    assert len(output.load(tmp_path / "results.json")[1]) == 1
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert go(f"--tiers 8 --seed 1 --out {tmp_path}") == 130  # before anything is measured
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


@pytest.mark.parametrize("place", ["cases", "results.json", "report.html"])
def test_on_a_full_disk_what_was_measured_is_shown_and_kept(outcomes, capsys, tmp_path, monkeypatch, place):
    def full(path, data, write=files.write_whole):
        if place in str(path) and len(outcomes["ran"]) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write_whole", full)
    monkeypatch.setattr(results, "write_whole", full)
    assert go(f"--tiers 4 6 --out {tmp_path}") == 4
    out, err = capsys.readouterr()
    assert [row[2:6] for row in out.splitlines()[4:6]] == ["4 GB", "6 GB"]
    assert "2 cases: 2 ok" in out and "2 of 2 cases fit" in out  # and what it all comes to
    assert err.count("\n") == 1 and place in err and "No space left" in err
    kept = len(list((tmp_path / "cases").iterdir()))
    assert kept == (1 if place == "cases" else 2)
    monkeypatch.undo()
    monkeypatch.setattr(command.pool, "run_plans", outcomes["pretend"])
    assert go(f"--tiers 4 6 --out {tmp_path}") == 0
    assert len(outcomes["ran"]) == 2 + (2 - kept)
    assert len(output.load(tmp_path / "results.json")[1]) == 2


def test_on_a_full_disk_a_suggestion_is_printed(outcomes, capsys, tmp_path, monkeypatch):
    def full(path, data, write=results.write_whole):
        if path.name == "report.html":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    def run(plans, on_record):
        outcomes["pretend"](plans, on_record=on_record)

    monkeypatch.setattr(results, "write_whole", full)
    monkeypatch.setattr(command, "_runner", lambda *_: run)
    assert main.main(f"--suggest --tiers 24 --source synthetic-tiny --out {tmp_path}".split()) == 4
    out, err = capsys.readouterr()
    assert "24 GB (RTX 4090), unlimited" in out and "report.html" in err


def test_a_picture_that_cannot_be_written_is_told_by_its_own_name(outcomes, capsys, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    picture = tmp_path / "fits.svg"
    assert go(f"--tiers 8 --svg {picture}") == 4
    out, err = capsys.readouterr()
    assert "1 case: 1 ok" in out
    assert err == f"tiersim: '{picture}': cannot be written: No space left on device; it is as before\n"


def test_worse_than_the_baseline_is_exit_1(outcomes, capsys, tmp_path):
    assert go(f"--tiers 6 8 --out {tmp_path}") == 0
    assert go(f"--tiers 6 8 --baseline {tmp_path}") == 0
    assert "no change" in capsys.readouterr().out
    outcomes[8] = {"peak_bytes": 4 * GIB}
    assert go(f"--tiers 6 8 --baseline {tmp_path / 'results.json'}") == 1
    assert "worse  8 GB (RTX 4060) default" in capsys.readouterr().out
    outcomes[8] = {"peak_bytes": 2 * GIB}
    assert go(f"--tiers 6 8 --baseline {tmp_path}") == 0


def test_results_in_the_profilers_format(outcomes, capsys, tmp_path):
    path = tmp_path / "boundary.json"
    assert go(f"--boundary --tiers 6 8 --benchmark-output {path}") == 0
    header, items = output.load(path)
    assert header.mode == "tier-test" and header.ended_utc and header.argv[0] == "--boundary"
    assert {item.card.variant for item in items} >= {"default", "no-offload"}
    assert go(f"--tiers 6 --benchmark-output {path} --json-compat") == 0
    assert json.loads(path.read_text())[0]["tier_gb"] == 6


def test_a_baseline_of_other_cases_is_refused_before_anything_runs(outcomes, capsys, tmp_path):
    """Nothing to compare would be no change, and exit code 0 whatever became worse."""
    assert go(f"--tiers 6 --out {tmp_path}") == 0
    assert go(f"--tiers 6 --baseline {tmp_path} --seed 1") == 2
    assert "has none of these cases" in capsys.readouterr().err and len(outcomes["ran"]) == 1
    assert go(f"--tiers 8 --batch-boundary --batch-sizes 2 --baseline {tmp_path}") == 2
    assert go(f"--tiers 6 8 --baseline {tmp_path}") == 0


def test_what_was_measured_is_no_baseline_of_a_prediction(outcomes, capsys, tmp_path):
    assert go(f"--tiers 6 --out {tmp_path}") == 0
    assert main.main(["--predict", "--baseline", str(tmp_path)]) == 2
    assert "was measured, this would be predicted; use --run" in capsys.readouterr().err


def test_a_card_of_ones_own_is_predicted_for(capsys, tmp_path):
    path = tmp_path / "card.json"
    mine = {"name": "Mine", "capability": "8.0", "memory_gib": 1, "tflop_per_s": 1, "gb_per_s": 1}
    path.write_text(json.dumps(mine))
    assert main.main(["--dry-run", "--device-json", str(path)]) == 0
    assert "TIER TEST CASES (predicted)" in capsys.readouterr().out


def test_wide_and_ascii(outcomes, capsys):
    assert go("--tiers 6 --wide --ascii") == 0
    said = capsys.readouterr().out
    assert said.isascii() and "Peak(GB)" in said


def test_a_bug_is_not_a_case_that_failed(outcomes, capsys, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command.pool, "run_plans", broken)
    assert go("--tiers 8 --cap virtual") == 4
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
