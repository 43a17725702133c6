"""Qwen3-TTS as the worker measures it and its benchmarks read it."""

import json
from types import SimpleNamespace

import pytest
from readings import read

from benchmarks import costs, qwen3_tts
from subjects.qwen3_tts import closed_form
from subjects.qwen3_tts.layout import TINY
from subjects.qwen3_tts.subject import SUBJECT

FRAME_S = 0.08


@pytest.fixture(scope="module")
def engine():
    return SUBJECT.load(SUBJECT.setup(TINY, device="cpu"))


@pytest.fixture
def plan(engine):
    return engine.resolve(SUBJECT.request(3 * FRAME_S, chunk_frames=2, text="a b"))


def test_a_request_is_read_stage_by_stage_and_its_talker_by_its_own_time(here, engine, plan):
    record = here.any_subject.request(SUBJECT, engine, plan)
    record["runs"] = record["runs"][:1]
    (run,) = record["runs"]
    stages = {
        stage: read(qwen3_tts.TrackSpeechStages, record, stage, 1.04)["stage"]["samples"][0]
        for stage in qwen3_tts.TrackSpeechStages.params[0]
        if stage != "compile"
    }
    assert sum(stages.values()) == pytest.approx(run["wall_s"], rel=1e-4)
    tokens = read(qwen3_tts.TrackSpeechTokens, record, 1.04, 1)
    assert tokens["talker_ms"]["samples"] == pytest.approx([1e3 * stages["talker_decode"] / 2], rel=1e-4)
    assert tokens["talker_rate"]["samples"] == pytest.approx([2 / stages["talker_decode"]], rel=1e-4)
    frame_s = sum(stages[stage] for stage in ("talker_decode", "sampling", "code_predictor")) / 3
    assert tokens["frame_ms"]["samples"] == pytest.approx([1e3 * frame_s], rel=1e-4)
    speech = read(qwen3_tts.TimeSpeech, record, 1.04, 1)
    assert speech["rtf"]["samples"] == pytest.approx([run["wall_s"] / (3 * FRAME_S)], rel=1e-4)
    with pytest.raises(NotImplementedError, match="compile does not run"):
        read(qwen3_tts.TrackSpeechStages, {"cell": "x"} | record, "compile", 1.04)


def test_the_parts_of_the_first_piece_add_up(here, engine, plan):
    record = here.any_subject.streamed(SUBJECT, engine, plan)
    heard = read(qwen3_tts.TrackFirstSpeech, record, 1.04, 4)
    assert 0 < heard["offline_error"] < 5e-5 and len(heard["gap_p50"]["samples"]) == here.commit.REPEATS
    parts = [heard[f"first_{part}"]["samples"] for part in ("prefill", "frames", "decode", "rest")]
    for first_s, *of_it in zip(heard["first_audio"]["samples"], *parts, strict=True):
        assert min(of_it) > 0 and sum(of_it) == pytest.approx(first_s, rel=1e-4)


def test_a_stream_that_is_not_what_is_decoded_at_once_has_failed(here, engine, plan, monkeypatch):
    whole = engine.decoded
    monkeypatch.setattr(
        engine,
        "decoded",
        lambda *of: [SimpleNamespace(tensor=audio.tensor.roll(1, -1)) for audio in whole(*of)],
    )
    record = here.any_subject.streamed(SUBJECT, engine, plan)
    assert record["status"] == "failed" and "from what is made at once" in record["reason"]


def test_memory_is_that_of_each_stage_and_at_least_the_weights(here, engine, plan, monkeypatch):
    record = here.any_subject.footprint(SUBJECT, engine, plan)
    assert record["weights_bytes"] == engine.models.weights_bytes
    for stage in qwen3_tts.PeakMemSpeech.params[0]:
        assert read(qwen3_tts.PeakMemSpeech, record, stage, 1.04)["peak"] >= record["weights_bytes"]
    monkeypatch.setattr(type(engine.models), "weights_bytes", 2**50)
    with pytest.raises(RuntimeError, match="below the weights"):
        here.any_subject.footprint(SUBJECT, engine, plan)


def test_what_an_engine_cannot_do_is_not_applicable(here):
    for measure, reason in (
        (here.any_subject.streamed, "streams nothing"),
        (here.any_subject.footprint, "no memory"),
    ):
        with pytest.raises(here.commit.Unsupported, match=reason):
            measure(SUBJECT, SimpleNamespace(), None)
    with pytest.raises(here.commit.Unsupported, match="is not known"):
        here.any_subject.of_commit("nowhere")


def test_networks_are_called_at_their_own_sizes_with_the_weights_of_the_run(monkeypatch):
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-full")
    _, subject, choices, cells = qwen3_tts.TimeSpeechNetwork().job
    assert (subject, json.loads(choices)) == ("qwen3_tts", {"source": "synthetic-full"})
    assert qwen3_tts.TimeSpeech().job[3] == cells  # which one worker serves
    sizes = [(cell["component"], cell["size"]) for kind, cell in json.loads(cells) if kind == "component"]
    assert sizes == [(name, size) for name, every in qwen3_tts.SIZES.items() for size in every]
    monkeypatch.setenv("ACESTEP_SOURCE", "/models/acestep")
    assert json.loads(qwen3_tts.TimeSpeech().job[2]) == {}


def test_a_frame_is_what_one_more_costs(here, monkeypatch):
    monkeypatch.setattr(here.predictions.matrix, "COST_SOURCE", TINY)
    suite = costs.TrackCostSpeech()
    record = {}
    for mode in ("eager", "captured"):
        cell = suite.cell("decode", "0.6B-CustomVoice", mode)
        record[cell.name] = {"status": "ok"} | here.predictions.measure(cell)
    values = {}
    for stage, _, mode in [
        (stage, None, mode) for stage in suite.params[0] for mode in ("eager", "captured")
    ]:
        suite.setup(record | {"header": {"status": "ok"}}, stage, "0.6B-CustomVoice", mode)
        values[stage, mode] = suite.track_frame_launches({}, stage), suite.track_flop()
    for stage in ("talker_decode", "sampling", "code_predictor"):
        assert values[stage, "captured"][0] == 1 < values[stage, "eager"][0]
    configs = SUBJECT.setup(TINY, device="cpu", model="0.6B-CustomVoice").configs
    width = configs.talker.hidden_size
    heads = configs.predictor.num_attention_heads * configs.predictor.head_dim
    ahead = 4 * configs.predictor.num_hidden_layers * heads  # one pair, of a pass that is causal
    flop = here._matrix.SPEECH_FRAMES * (closed_form.frame_flop(configs.predictor, width) - ahead)
    assert values["code_predictor", "eager"][1] == values["code_predictor", "captured"][1] == flop
    assert values["code_predictor", "eager"][0] > 15 * 20  # each of its steps is launched kernel by kernel
    assert values["decode", "eager"][0] != values["decode", "eager"][0]  # n/a: it makes no frames


def test_a_card_that_is_too_small_is_out_of_memory(here, monkeypatch):
    monkeypatch.setattr(here.predictions.matrix, "COST_SOURCE", TINY)
    for tier_gb, status in ((4, "ok"), (0.1, "oom")):
        cell = here._matrix.cell("predicted", subject="qwen3_tts", tier_gb=tier_gb, model="0.6B-CustomVoice")
        assert here.predictions.measure(cell)["status"] == status
