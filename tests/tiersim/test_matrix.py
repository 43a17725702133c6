"""What a case chooses of its subject: flags, matrices of them, and keys."""

import json
from dataclasses import asdict, replace

import pytest

import tiersim.__main__ as main
from acestep.tier_options import CAPTION
from harness.cards import find
from harness.errors import UsageError
from harness.quantization import LM_QUANTIZATIONS
from tiersim import Case, command
from tiersim.case import resolve, subject_of
from tiersim.matrix import bases
from tiersim.results import _plain
from tiersim.run import record_of

BASE, XL = "acestep-v15-base", "acestep-v15-xl-turbo"
CARD = find("rtx4090")


def case(tier_gb: float = 24.0, **choices) -> Case:
    return Case(tier_gb, card=CARD, source="synthetic-full", choices=tuple(choices.items()))


def asked(line: str) -> list[Case]:
    words = f"--predict --source synthetic-tiny {line}".split()
    return bases(main.arguments().parse_args(words), CARD)


def test_several_values_of_flags_are_a_matrix_of_all():
    cases = asked(f"--dit {BASE} {XL} --shift 1 3 1 --duration 30 60 --dtype fp32 --tiers 8")
    rows = [(dict(c.choices)["dit"], dict(c.choices)["shift"], c.duration_s) for c in cases]
    assert rows == [(dit, shift, s) for dit in (BASE, XL) for shift in (1, 3) for s in (30, 60)]
    assert {dict(c.choices)["dtype"] for c in cases} == {"fp32"}
    (plain,) = asked("")
    assert plain.choices == () and (plain.duration_s, plain.steps, plain.seed, plain.preset) == (
        30,
        8,
        42,
        "fixed",
    )


def test_a_dry_run_counts_the_matrix(capsys):
    line = f"--predict --dry-run --source synthetic-tiny --boundary --with-lm --dit acestep-v15-turbo {XL}"
    assert main.main(line.split()) == 0
    told = capsys.readouterr().out.splitlines()
    skipped = [row for row in told if "SKIP" in row]
    assert told[-1] == f"{len(told) - 5} cases, {len(skipped)} of them skipped"
    assert sum(f"SKIP {XL} is over the limit of " in row for row in skipped) == 9  # 4, 6 and 8 GB


def test_what_a_case_chooses_is_in_its_key():
    keys = {
        resolve(each).key
        for each in (
            case(), case(dit=BASE), case(dit=XL), case(dtype="fp32"), case(dtype="fp16"), case(shift=3.0),
            case(quantization="fp8_weight_only"), case(policy="upstream-2026"),
            case(request="example_01.json"), case(request="example_02.json"),
            replace(case(), lm=True), replace(case(lm_model="acestep-5Hz-lm-0.6B"), lm=True),
            *(replace(case(lm_quantization=name), lm=True) for name in LM_QUANTIZATIONS),
        )
    }  # fmt: skip
    assert len(keys) == 14
    same = (case(dit="acestep-v15-turbo"), case(dtype="auto"), case(policy="guide"), case(shift=1.0))
    assert {resolve(each).key for each in same} == {resolve(case()).key}
    assert resolve(replace(case(lm_quantization="none"), lm=True)).key in keys


def test_a_language_model_is_quantized_where_the_variant_says_so():
    name, *_ = LM_QUANTIZATIONS
    quantized = replace(case(lm_quantization=name), lm=True)
    record = record_of(resolve(quantized), "ok", "", {})
    assert record.lm_quantization == name and _plain(record)["lm_quantization"] == name
    for variant in ("no-quant", "no-offload"):
        assert resolve(replace(quantized, variant=variant)).settings.lm_quantization is None
    (matrix,) = asked(f"--with-lm --lm-quantization {name}")
    assert dict(matrix.choices) == {"lm_quantization": name}
    assert len(asked(f"--with-lm --lm-quantization none {' '.join(LM_QUANTIZATIONS)}")) == 3


@pytest.mark.parametrize(("lm", "key"), [(False, "f94fe9c7002c5eb7"), (True, "41be3ac3aaebea62")])
def test_keys_from_before_there_was_a_choice_are_what_they_were(lm, key):
    assert resolve(replace(case(), lm=lm)).key == key


def test_a_record_of_a_case_without_a_choice_is_what_it_was():
    plain, chosen = (record_of(resolve(each), "ok", "", {}) for each in (case(), case(dit=XL)))
    assert "choices" not in json.dumps(_plain(plain))
    assert "choices" in _plain(chosen)["requested"] and "choices" in _plain(chosen)["effective"]


def test_a_request_file_is_what_its_case_asks_for_and_flags_go_over_it():
    (own,) = asked("--request example_01.json")
    params, config = subject_of(own).case_request(own)
    assert params.caption != CAPTION and params.duration == own.duration_s
    assert config.batch_size == own.batch_size
    (flagged,) = asked("--example example_01.json --duration 20 --batch-size 2 --steps 3 --seed 7")
    params, config = subject_of(flagged).case_request(flagged)
    assert (params.duration, params.inference_steps, config.seeds) == (20, 3, (7, 8))


def test_a_recording_says_how_long_its_case_is_and_what_is_asked_otherwise_is_told():
    (own,) = asked("--request examples/tasks/cover.json --tiers 8")
    plan = resolve(own)
    assert plan.effective.duration_s == own.duration_s and not plan.adjustments
    longer = resolve(replace(own, duration_s=60.0))
    assert longer.effective.duration_s == own.duration_s
    assert [change.field for change in longer.adjustments] == ["duration"]


def test_choices_reach_the_plan_and_the_rows():
    plan = resolve(
        replace(case(16, dit=XL, quantization="none", dtype="fp32", lm_model="acestep-5Hz-lm-0.6B"), lm=True)
    )
    setup = plan.engine_plan.setup
    assert (setup.dit, setup.quantization, setup.dtype, setup.lm) == (XL, None, "fp32", "acestep-5Hz-lm-0.6B")
    report = command.Report(300)
    assert f"dit {XL}, quantization none, dtype fp32" in report.plans([plan])


@pytest.mark.parametrize(("tier_gb", "strict"), [(8, True), (12, False)])
def test_xl_where_a_tier_has_none_is_not_tried_and_refused_when_strict(capsys, tier_gb, strict):
    line = f"--predict --dry-run --source synthetic-tiny --dit {XL} --tiers {tier_gb}"
    assert main.main(line.split()) == 0
    assert ("SKIP" in capsys.readouterr().out) == strict
    assert main.main([*line.split(), "--strict"]) == (2 if strict else 0)
    assert (f"--dit: {XL} is over the limit of 8 GB (RTX 4060)" in capsys.readouterr().err) == strict
    assert main.main([*line.split(), "--no-limits"]) == 0
    assert "SKIP" not in capsys.readouterr().out
    assert not subject_of(case()).tier(case(8, dit=XL)).promised
    assert subject_of(case()).tier(case(12, dit=XL)).promised


def test_a_choice_that_is_none_is_refused():
    for choices in ({"colour": "red"}, {"dtype": "int3"}, {"policy": "theirs"}):
        with pytest.raises(UsageError, match=next(iter(choices))):
            case(**choices)
    with pytest.raises(UsageError, match="has no use without a language model"):
        asked("--lm-model acestep-5Hz-lm-4B")
    assert asdict(case(dit=BASE))["choices"] == (("dit", BASE),)
