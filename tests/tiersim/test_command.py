"""`python -m tiersim` as it is: from its flags to a process, a prediction, its files."""

import pytest
from fresh import run_each

import tiersim.__main__ as main
from harness.records import writer as output
from tiersim import command


def test_a_real_run_is_kept_with_its_memory_over_time_and_not_repeated(capsys, tmp_path, monkeypatch):
    line = "--tiers 8 --variants no-quant --source synthetic-tiny --cap virtual --duration 5 --steps 2"
    line += f" --out {tmp_path}"
    assert main.main(line.split()) == 0
    first = capsys.readouterr().out
    (item,) = output.load(tmp_path / "results.json")[1]
    assert item.status == "ok" and item.card.cap == "virtual" and item.card.cap_verified
    stages = {used.phase.partition("/")[0] for used in item.card.timeline}
    assert {"load", "diffuse", "vae_decode"} <= stages
    page = (tmp_path / "report.html").read_text()
    assert "<title>diffuse</title>" in page
    monkeypatch.setattr(command.pool, "run_plans", lambda *_, **__: pytest.fail("nothing may run now"))
    assert main.main(line.split()) == 0
    assert capsys.readouterr().out == first


def test_a_prediction_from_end_to_end(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    tiny = f"--predict --tiers 8 24 --source synthetic-tiny --duration 10 --steps 1 --out {folder}"
    line = f"{tiny} --boundary --batch-boundary --batch-sizes 1 2 --jobs 1"
    assert main.main(line.split()) == 0
    first = capsys.readouterr().out
    titles = ("TIER TEST RESULTS", "BOUNDARY ANALYSIS", "BATCH BOUNDARY SUMMARY", "CONFIGURED LIMITS")
    assert all(f"{title} (predicted)\n" in first for title in titles)
    assert first.count("uncalibrated, torch ") == 3  # below the table, and below each analysis
    assert "Without INT8 Quantization                       ≤ 8 GB (RTX 4060)" in first
    _, items = output.load(folder / "results.json")
    asked = {
        (i.card.tier_gb, i.card.variant, i.requested["thinking"], i.requested["batch_size"]) for i in items
    }
    assert asked == {
        *((8, variant, False, 1) for variant in ("default", "no-quant", "no-offload")),
        *((8, "default", lm, batch) for lm in (False, True) for batch in (1, 2)),
        *((24, "default", lm, batch) for lm in (False, True) for batch in (1, 2)),
    }
    assert len(items) == len(asked) and {item.card.cap for item in items} == {"predicted"}
    assert all(item.card.peak_source.startswith("predicted") and item.card.timeline for item in items)
    assert (folder / "summary.md").read_text().count("(predicted)") == 3
    assert "Tier test, predicted" in (folder / "report.html").read_text()
    monkeypatch.setattr(command.Predictors, "run_plans", lambda *_, **__: pytest.fail("nothing may run now"))
    assert main.main(line.split()) == 0
    assert capsys.readouterr().out == first
    assert main.main(f"{tiny} --baseline {folder} --jobs 1".split()) == 0
    assert "2 of 2 cases compared" in capsys.readouterr().out
    assert main.main(f"--run --baseline {folder}".split()) == 2
    assert "was predicted, this would be measured; use --predict" in capsys.readouterr().err


def test_a_preset_has_a_length_and_items_of_its_own(capsys):
    def first(words: str) -> list[str]:
        assert main.main(f"--predict --dry-run --source synthetic-tiny --tiers 8 {words}".split()) == 0
        return capsys.readouterr().out.splitlines()[-2].split()

    for words, length, items in [
        ("", "30s", "1"),
        ("--preset upstream", "120s", "2"),
        ("--preset upstream --duration 20 --batch-size 1", "20s", "1"),
    ]:
        row = first(words)
        assert length in row and row[row.index(length) + 1] == items


WRONG = [
    "--tiers 0", "--tiers nan", "--tiers x", "--duration 601", "--steps 0", "--batch-size 1.5", "--seed -1",
    "--device tpu", "--preset theirs", "--case-timeout 0", "--no-such-flag", "--variants all", "--cap dmem",
    "--repeats 0",
    "--batch-sizes 0", "--rerun failed", "--json-compat", "--benchmark-output a.txt", "--jobs 0",
    "--predict --cap virtual", "--run --card rtx4090", "--card rtx4090 --device cpu", "--predict --run",
    "--card rtx9999", "--card rtx4090 --device-json a.json", "--cap host --device cuda",
    "--lm-backend onnx", "--lm-backend vllm --predict --with-lm", "--gpus 0 --run --device cpu",
    "--lm-backend mlx --cap virtual --batch-boundary --tiers 8",
    "--benchmark-output /no/such/folder/a.json", "--out /proc/no", "--svg /no/such/folder/a.svg",
    "--boundary --variants no-quant", "--suggest --variants no-quant", "--matrix --variants default",
    "--batch-sizes 2", "--suggest --batch-sizes 2", "--scheduler tcp://x --jobs 2",
    "--predict --repeats 3", "--card rtx4090 --case-timeout 60", "--suggest --repeats 3",
    "--matrix --boundary", "--matrix --batch-boundary", "--suggest --matrix", "--suggest --svg a.svg",
]  # fmt: skip


@pytest.fixture(scope="module")
def refusals():
    """What each wrong line comes to in a fresh process, and what that imported."""
    code = (
        "import sys, tiersim.__main__ as m\n"
        "try: code = m.main({line!r})\nexcept SystemExit as e: code = e.code\n"
        "assert not {{'torch', 'numpy'}} & set(sys.modules); sys.exit(code)"
    )
    scripts = [code.format(line=line.split()) for line in WRONG]
    return dict(zip(WRONG, run_each(scripts, first="import tiersim.command"), strict=True))


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_exit_2_before_anything_heavy(refusals, line):
    code, out, err = refusals[line]
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
