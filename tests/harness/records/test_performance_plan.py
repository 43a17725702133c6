"""The view of a record under a performance plan's names: its figures are the record's, and a gap is null."""

import json
import sys

import msgspec
import pytest
from msgspec.structs import asdict, replace
from profiles import header, item, sample

from harness.adjustments import Fallback
from harness.errors import UsageError
from harness.records import performance_plan
from harness.records.performance_plan import FEATURES, STAGES, VIEW, view
from harness.records.schema import Input, Item, Profile, Sample
from harness.records.writer import Writer, load
from tests.toy_subject import Toy

RAN = {"device": "cuda:0", "dtype": "bfloat16", "quantization": None, "lm_quantization": None,
       "compile": True, "graphs": False, "lm_backend": "pt", "threads": 2}  # fmt: skip
SHORT = Input(name="short", sha256="ab" * 32)
COUNTS = {"audio_s": 30.0, "lm_decode_tokens": 150}
MEASURED = item(effective=RAN, input=SHORT, counts=COUNTS, rtf=0.1)
CHUNK = "time_to_first_chunk_ms"
FIGURES = ("wall_clock_ms", CHUNK, "peak_memory_mb", "tokens_per_second", "realtime_factor")


def result(measured: Item, **run) -> dict:
    (only,) = view(Profile(run=header(**run), items=(measured,)))["results"]
    return only


def test_names_and_figures_are_the_plans():
    plan = json.loads(performance_plan.encode(Profile(run=header(), items=(MEASURED,))))
    assert {"commit", "device", "features", "results"} <= plan.keys()
    assert (plan["commit"], plan["dirty"], plan["device"]) == ("c0ffee", False, "cuda:0")
    formats = "dtype=bfloat16,quantization=none,lm_quantization=none"
    assert plan["features"] == f"{formats},compile=on,graphs=off,lm_backend=pt,threads=2"
    (only,) = plan["results"]
    assert {"input", *FIGURES, "stages"} <= only.keys()
    assert (only["input"], only["input_sha256"], only["error"]) == ("short", "ab" * 32, None)
    typical = MEASURED.typical
    assert typical and only["wall_clock_ms"] == 1e3 * typical.wall_s == 3000
    assert only["tokens_per_second"] == 150 / typical.stages_s["lm_decode"] == 300
    assert only["realtime_factor"] * MEASURED.rtf == pytest.approx(1)  # audio over wall: the plan's, not ours
    assert (only["peak_memory_mb"], only["peak_memory_source"]) == (20 / 2**20, "reserved")
    assert "rtf" not in only


def test_stages_add_up_and_those_of_another_model_are_null():
    stages = result(MEASURED)["stages"]
    assert sum(filter(None, stages.values())) == pytest.approx(3000)
    assert {name: stages[f"{name}_ms"] for name in STAGES} == dict.fromkeys(STAGES)
    assert stages["diffuse_ms"] == 1000 and stages["save_ms"] is None  # which did not run


def test_what_a_record_lacks_is_null_and_a_failure_an_entry():
    failed = replace(
        MEASURED, status="oom", error="no room", samples=(), counts={}, memory_bytes={}, rtf=None
    )
    only = result(failed)
    assert (only["input"], only["status"], only["error"]) == ("short", "oom", "no room")
    assert [only[name] for name in FIGURES] == [None] * len(FIGURES) and not any(only["stages"].values())
    assert only["features"] is not None  # the engine was there
    bare = result(item(effective={}, samples=(sample(3.0),), counts={"audio_s": 30.0}, memory_bytes={}))
    assert (bare["input"], bare["features"], bare["peak_memory_mb"]) == (None, None, None)
    assert bare["tokens_per_second"] is None and bare["time_to_first_chunk_ms"] is None


class Stream(msgspec.Struct, frozen=True):
    time_to_first_chunk_ms: float


class StreamedSample(Sample, frozen=True, kw_only=True):
    stream: Stream | msgspec.UnsetType = msgspec.UNSET


def test_a_stream_has_its_first_chunk():
    """That of the typical sample. Offline the first audio is the last, and no chunk."""

    def chunk_ms(*streams_ms: float | None) -> float | None:
        samples = [asdict(sample(wall_s, first_audio_s=wall_s)) for wall_s in (3.0, 4.0, 2.5)]
        for one, stream_ms in zip(samples, streams_ms, strict=True):
            one["stream"] = msgspec.UNSET if stream_ms is None else Stream(stream_ms)
        return result(replace(MEASURED, samples=tuple(StreamedSample(**one) for one in samples)))[CHUNK]

    assert chunk_ms(None, None, None) is None
    assert chunk_ms(180.0, 170.0, 190.0) == 180


def test_features_of_the_whole_are_those_that_all_have_and_each_result_has_its_own():
    other = replace(MEASURED, key="2", effective=RAN | {"quantization": "int8_weight_only", "threads": 4})
    skipped = item(60.0, effective={}, status="skip", error="no time left", samples=())
    plan = view(Profile(run=header(), items=(MEASURED, other, skipped)))
    assert plan["features"] == "dtype=bfloat16,lm_quantization=none,compile=on,graphs=off,lm_backend=pt"
    assert "quantization=int8_weight_only" in plan["results"][1]["features"]
    assert view(Profile(run=header(), items=(skipped,)))["features"] is None
    assert [name.partition("=")[0] for name in plan["features"].split(",")] == [
        name for name in FEATURES if name not in ("quantization", "threads")
    ]


def test_two_results_of_one_name_are_of_one_input():
    """What is not the file's own is part of the name."""
    longer = replace(SHORT, changed={"duration": 30.0, "thinking": True, "lyrics": None})
    assert result(replace(MEASURED, input=longer))["input"] == "short duration=30 thinking=on lyrics=none"
    slow = Fallback("diffuse", "not recorded", "launched kernel by kernel")
    assert result(replace(MEASURED, fallbacks=(slow,)))["fallbacks"] == [str(slow)]


def test_any_subject_has_its_own_stages():
    ran = replace(sample(2.5), stages_s={"encode": 0.25, "decode": 2.0, "other": 0.25})
    only = result(item(samples=(ran,)), subject="tests.toy_subject")
    assert [*only["stages"]] == [f"{name}_ms" for name in (*Toy().stages, "other", *STAGES)]
    assert only["stages"]["encode_ms"] == 250 and sum(filter(None, only["stages"].values())) == 2500
    assert only["tokens_per_second"] is None  # it has no tokens


def test_the_plans_stages_are_those_a_subject_has_columns_of():
    stages_s = {"talker_prefill": 0.5, "talker_decode": 1.0, "code_predictor": 2.0, "other": 0.25}
    only = result(item(samples=(replace(sample(3.75), stages_s=stages_s),)), subject="qwen3_tts")
    assert (only["stages"]["talker_ms"], only["stages"]["code_predictor_ms"]) == (1500, 2000)
    assert only["stages"]["decoder_12hz_ms"] is None  # which did not run


def test_a_record_that_is_there_is_shown(tmp_path, monkeypatch, capsys):
    path = tmp_path / "r.json"
    with Writer(path, header()) as writer:
        writer.add(MEASURED)
    monkeypatch.setattr(sys, "argv", ["performance_plan", str(path)])
    assert performance_plan.main() == 0
    run, items = load(path)
    assert json.loads(capsys.readouterr().out) == view(Profile(run=run, items=tuple(items)))
    monkeypatch.setattr(sys, "argv", ["performance_plan", str(tmp_path / "absent.json")])
    assert performance_plan.main() == 3 and "absent.json" in capsys.readouterr().err


def test_a_view_is_written_row_by_row_and_an_earlier_one_is_kept(tmp_path):
    path = tmp_path / "plan.json"
    for name in ("first", "second"):
        with Writer(path, header(commit=name), view=VIEW) as writer:
            writer.add(MEASURED)
            assert len(json.loads(path.read_bytes())["results"]) == 1
    commits = {file.name: json.loads(file.read_bytes())["commit"] for file in tmp_path.iterdir()}
    assert commits == {"plan.json": "second", "plan-kept.json": "first"}


@pytest.mark.parametrize("held", ["notes", "[]", '{"commit": 1}', "a record"])
def test_what_is_no_view_is_refused_and_left_alone(tmp_path, held):
    path = tmp_path / "plan.json"
    if held == "a record":
        Writer(path, header()).close()
    else:
        path.write_text(held)
    before = path.read_text()
    with pytest.raises(UsageError, match=r"^json_plan: '.*plan.json' is there and would be lost: "):
        Writer(path, header(), view=VIEW)
    assert [file.read_text() for file in tmp_path.iterdir()] == [before]
