"""What the engine says it did adds up, is what was asked for, and is the same item whatever its batch."""

from dataclasses import replace

import pytest
import soundfile
import torch

from harness.errors import BenchError, MissingPrerequisite
from harness.streaming import largest_error, unequal
from subjects.qwen3_tts.config import FRAME_SAMPLES, SAMPLE_RATE
from subjects.qwen3_tts.engine import Engine
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.result import Result
from subjects.qwen3_tts.subject import SUBJECT

FRAMES = 6


def asked(engine: Engine, frames: int = FRAMES, **fields):
    return engine.resolve(request(frames * 0.08, **fields))


@pytest.fixture(scope="module")
def result(engine) -> Result:
    return engine.run(asked(engine, batch_size=2))


def test_stages_and_the_rest_are_the_wall(result):
    assert set(result.stages_s) <= {*SUBJECT.stages, "other"}
    assert {"prompt", "talker_prefill", "talker_decode", "sampling", "code_predictor", "decode"} <= set(
        result.stages_s
    )
    assert sum(result.stages_s.values()) == pytest.approx(result.wall_s, rel=1e-9)
    assert result.rtf * result.x_realtime == pytest.approx(1) and result.x_realtime > 0


def test_work_is_counted(engine, result):
    rows = len(asked(engine).prompt.rows)
    counts = result.counts
    assert (counts.frames, counts.audio_s) == (FRAMES, pytest.approx(FRAMES * 0.08))
    assert (counts.talker_tokens, counts.predictor_codes) == (2 * (FRAMES - 1), 2 * FRAMES * 15)
    assert (counts.prompt_rows, counts.decoded_frames) == (2 * rows, 2 * FRAMES)


def test_an_item_is_the_same_alone_and_seeds_are_honoured(engine, result):
    first, second = result.codes
    assert first.shape == (16, FRAMES) and int(first.max()) < 2048 and not torch.equal(first, second)
    alone = engine.run(asked(engine, seed=43))
    assert torch.equal(alone.codes[0], second)
    assert torch.allclose(alone.audios[0].tensor, result.audios[1].tensor, atol=1e-5)
    greedy = [engine.run(asked(engine, seed=seed, greedy=True)).codes[0] for seed in (1, 2)]
    assert torch.equal(*greedy) and not torch.equal(greedy[0], first)


def test_logits_that_are_not_numbers_are_an_error(engine, monkeypatch):
    """What is drawn by them sounds like anything else."""
    plan = asked(engine, chunk_frames=2)
    weight = engine.models.talker.model.layers[0].mlp.down_proj.weight
    right = weight.data.clone()
    weight.data[0, 0] = torch.nan
    try:
        for run in (engine.run, lambda plan: [*engine.stream(plan)]):
            with pytest.raises(BenchError, match=r"talker: its logits are NaN or infinite in float32"):
                run(plan)
    finally:
        weight.data.copy_(right)
    assert SUBJECT.check(engine.run(plan), plan) is None


def test_device_and_dtype_are_read_back_from_the_weights(engine):
    assert (engine.environment["device"], engine.environment["dtype"]) == ("cpu", "float32")
    engine.models.talker.codec_head.weight.data = engine.models.talker.codec_head.weight.data.clone()
    tensors = [p for _, module in engine.models.modules() for p in module.parameters()]
    assert engine.models.weights_bytes == sum(p.nbytes for p in tensors) > 2**24


@pytest.mark.parametrize("chunk_frames", [1, 4, 300])
def test_a_stream_is_what_is_made_at_once(engine, result, chunk_frames):
    plan = asked(engine, batch_size=2, chunk_frames=chunk_frames)
    with engine.stream(plan) as stream:
        chunks = [*stream]
    assert len(chunks) == -(-FRAMES // chunk_frames)
    streamed = stream.result
    assert streamed and all(map(torch.equal, streamed.codes, result.codes))
    error = largest_error(chunks, [audio.tensor for audio in result.audios])
    assert not unequal(error, "float32")
    assert SUBJECT.check(streamed, plan) is None
    assert sum(streamed.stages_s.values()) == pytest.approx(streamed.wall_s, rel=1e-9)


def test_a_stream_that_another_request_has_overtaken_says_so(engine):
    stream = engine.stream(asked(engine, chunk_frames=2))
    next(stream)
    engine.run(asked(engine))
    with pytest.raises(BenchError, match="another request"):
        next(stream)


def test_time_to_the_first_chunk_is_made_of_its_stages(engine):
    stream = engine.stream(asked(engine, chunk_frames=2))
    first = next(stream)
    list(stream)
    assert stream.result
    parts = stream.result.first_chunk_stages_s
    assert {"prompt", "talker_prefill", "talker_decode", "code_predictor", "sampling", "decode"} < set(parts)
    assert all(seconds >= 0 for seconds in parts.values())
    assert parts["talker_prefill"] < sum(parts.values()) <= first.t_s
    assert all(parts[stage] <= stream.result.stages_s[stage] for stage in parts if stage != "other")


def test_context_that_is_decoded_again_is_not_what_is_made_at_once(engine):
    frames, context = 9, 2
    plan = asked(engine, frames, chunk_frames=3, context=context)
    assert any("not exact" in note for note in plan.notes)
    stream = engine.stream(plan)
    chunks = [*stream]
    assert stream.result
    whole = [audio.tensor for audio in engine.decoded(plan, stream.result.codes)]
    assert unequal(largest_error(chunks, whole), "float32")  # the control of the test of streams
    assert stream.result.counts.decoded_frames == 3 + (3 + context) * 2
    again = engine.stream(replace(plan, request=replace(plan.request, context=None)))
    assert not unequal(largest_error([*again], whole), "float32")


def test_what_ends_by_itself_is_cut_where_it_ended(engine, monkeypatch):
    from subjects.qwen3_tts import frames as frame_loop

    draw = frame_loop.FrameLoop._draw_first

    def ends(loop) -> None:  # item 0 after 3 frames, item 1 after 5
        draw(loop)
        if loop.ends:
            done = int(loop._index)
            loop._kept.copy_(torch.tensor([min(done + 1, 3), min(done + 1, 5)]))
            loop._ended.copy_(torch.tensor([done >= 3, done >= 5]))

    monkeypatch.setattr(frame_loop.FrameLoop, "_draw_first", ends)
    plan = engine.resolve(request(None, batch_size=2, max_frames=8, chunk_frames=2))
    result = engine.run(plan)
    assert [codes.shape[-1] for codes in result.codes] == [3, 5]
    assert [audio.tensor.shape[-1] for audio in result.audios] == [3 * FRAME_SAMPLES, 5 * FRAME_SAMPLES]
    assert SUBJECT.check(result, plan) is None and result.counts.audio_s == pytest.approx(5 * 0.08)
    stream = engine.stream(plan)
    chunks = [*stream]
    assert [chunk.samples.shape[-1] // FRAME_SAMPLES for chunk in chunks] == [2, 2, 1]
    assert not unequal(largest_error(chunks, [audio.tensor for audio in result.audios]), "float32")


def test_files_are_what_was_heard(engine, tmp_path):
    plan = asked(engine, batch_size=2)
    result = engine.run(plan, tmp_path)
    assert "save" in result.stages_s
    for audio in result.audios:
        assert audio.path == tmp_path / f"{audio.seed}.wav"
        samples, rate = soundfile.read(audio.path, dtype="float32")
        assert rate == SAMPLE_RATE and abs(samples - audio.tensor[0].numpy()).max() < 1 / 2**14


def test_what_came_wrong_is_told(engine, result):
    plan = asked(engine, batch_size=2)
    assert SUBJECT.check(result, plan) is None
    longer = asked(engine, FRAMES + 1, batch_size=2)
    assert "samples, 13,440 were asked for" in (SUBJECT.check(result, longer) or "")
    assert "1 were asked for" in (SUBJECT.check(result, asked(engine)) or "")
    for problem, wave in (
        ("silent", torch.zeros_like(result.audios[0].tensor)),
        ("clipped", torch.ones_like(result.audios[0].tensor)),
        ("not numbers", torch.full_like(result.audios[0].tensor, torch.nan)),
    ):
        audio = replace(result.audios[0], tensor=wave, peak=float(wave.abs().max()))
        wrong = replace(result, audios=(audio, result.audios[1]))
        assert problem in (SUBJECT.check(wrong, plan) or "")


def test_what_goes_on_from_a_recording_is_decoded_behind_it():
    base = Engine.load("synthetic-tiny", model="0.6B-Base", device="cpu")
    frames = torch.randint(2048, (5, 16), generator=torch.Generator().manual_seed(0))
    fields = {"reference_text": "a b", "reference_codes": tuple(map(tuple, frames.tolist()))}
    plan, without = asked(base, 4, chunk_frames=3, **fields), asked(base, 4)
    assert len(plan.prompt.rows) == len(without.prompt.rows) + 5
    result = base.run(plan)
    assert SUBJECT.check(result, plan) is None and result.counts.decoded_frames == 4 + 5
    chunks = [*base.stream(plan)]
    whole = [audio.tensor for audio in base.decoded(plan, result.codes)]
    assert not unequal(largest_error(chunks, [audio.tensor for audio in result.audios]), "float32")
    assert not unequal(largest_error(chunks, whole), "float32")
    alone = [audio.tensor for audio in base.decoded(without, result.codes)]  # the control: from silence
    assert unequal(largest_error(chunks, alone), "float32")


def test_a_voice_that_cannot_be_heard_is_refused(tmp_path):
    base = Engine.load("synthetic-tiny", model="1.7B-Base", device="cpu")
    absent = str(tmp_path / "absent.wav")
    with pytest.raises(MissingPrerequisite, match=r"reference: .*absent\.wav"):
        base.run(asked(base, 1, reference=absent))
    noise, other = (0.1 * torch.randn(24_000, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    for name, sound in (("a", noise), ("b", other)):
        soundfile.write(tmp_path / f"{name}.wav", sound.numpy(), SAMPLE_RATE, "FLOAT")
    a, b, again = (
        base.run(asked(base, 2, reference=str(tmp_path / f"{name}.wav"), greedy=True)).codes[0]
        for name in "aba"
    )
    assert torch.equal(a, again)
    assert not torch.equal(a, b)
