"""The whole path on tiny weights: what comes out, what is counted, what does not depend on what."""

import dataclasses

import pytest
import torch

import acestep
from acestep import DescriptionParams, GenerationConfig, GenerationParams, generate_music
from acestep.diffusion import sampler as diffusion
from acestep.engine import Engine
from acestep.lm.grammar import constraint
from acestep.weights.synthetic import Synthetic, write
from harness.adjustments import Adjustment
from harness.errors import BenchError, MissingPrerequisite, UsageError

STAGES = ["text_encode", "condition", "diffuse", "vae_decode", "post", "save", "other"]
ALL_METADATA = {"bpm": 120, "keyscale": "A minor", "timesignature": "4"}
PARAMS = GenerationParams(caption="slow dub techno", duration=6, inference_steps=4, **ALL_METADATA)  # type: ignore[arg-type]
THINKING = dataclasses.replace(PARAMS, thinking=True)


def seeded(*seeds: int) -> GenerationConfig:
    return GenerationConfig(batch_size=len(seeds), seeds=seeds)


def test_audio_is_finite_stereo_of_the_length_asked_for(engine: Engine):
    result = generate_music(engine, PARAMS, seeded(1, 2))
    assert len(result.audios) == 2
    for item in result.audios:
        assert item.tensor.shape == (2, 6 * 48_000) and item.tensor.dtype == torch.float32
        assert item.tensor.isfinite().all() and 0 < item.rms < item.peak <= 1
    assert not torch.equal(result.audios[0].tensor, result.audios[1].tensor)


def test_stages_come_in_order_and_sum_to_the_wall(engine: Engine):
    requests = (dataclasses.replace(request, inference_steps=None) for request in (PARAMS, THINKING))
    plain, thinking = (engine.generate(request, seeded(1)) for request in requests)
    assert list(plain.stages_s) == STAGES
    assert list(thinking.stages_s) == ["lm_prefill", "lm_decode", *STAGES]
    for result in (plain, thinking):
        assert sum(result.stages_s.values()) == pytest.approx(result.wall_s)
        assert all(seconds >= 0 for seconds in result.stages_s.values())
        assert len(result.steps_s) == result.counts.dit_steps == 8
    for part in ("forward", "cfg", "sampling"):
        assert thinking.details_s[f"lm_decode/{part}"] > 0


def test_same_seed_same_audio_other_seed_other_audio(engine: Engine):
    first, again, other = (engine.generate(THINKING, seeded(s)).audios[0].tensor for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_plan_does_not_depend_on_its_batch(engine: Engine):
    together = engine.plan(THINKING, seeded(3, 4, 5)).codes
    alone = engine.plan(THINKING, seeded(4)).codes
    assert together is not None and alone is not None
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("duration", [6, 7.4, 10])
def test_exactly_five_codes_per_second(engine: Engine, duration: float):
    result = engine.generate(dataclasses.replace(THINKING, duration=duration), seeded(1, 2))
    assert result.counts.audio_codes == int(5 * duration)
    assert result.counts.latent_frames == 5 * int(5 * duration)
    assert result.counts.lm_decode_tokens == 2 * int(5 * duration)
    assert result.counts.lm_decode_steps == int(5 * duration) - 1  # the first comes from the prefill


def test_codes_change_the_music(engine: Engine):
    planned = engine.generate(THINKING, seeded(1)).audios[0].tensor
    plain = engine.generate(PARAMS, seeded(1)).audios[0].tensor
    assert not torch.allclose(planned, plain, atol=1e-3)


def test_complete_metadata_needs_no_language_model(engine: Engine):
    result = engine.generate(PARAMS, seeded(1))
    assert result.counts.lm_prefill_tokens == result.counts.lm_decode_steps == 0
    assert result.audios[0].metadata["bpm"] == 120


def test_open_metadata_is_planned_and_given_metadata_kept(engine: Engine):
    open_bpm = dataclasses.replace(PARAMS, bpm=None)
    plan = engine.plan(open_bpm, seeded(1))
    assert 30 <= plan.metadata[0]["bpm"] <= 300
    assert plan.metadata[0]["keyscale"] == "A minor" and plan.metadata[0]["duration"] == 6
    assert plan.counts.lm_decode_steps <= 4  # the digits of the tempo and the newline after them
    assert plan.codes is None


def test_caption_and_language_can_be_planned(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constraint, "CAPTION_TOKENS", 6)
    asked = dataclasses.replace(PARAMS, bpm=None, use_cot_caption=True, use_cot_language=True)
    plan = engine.plan(asked, seeded(5))
    assert plan.metadata[0]["caption"] and plan.metadata[0]["language"]


def test_words_come_by_their_upstream_names(engine: Engine):
    short = {"max_lyrics_tokens": 8, "max_caption_tokens": 8, "seed": 3}
    heard = acestep.understand_music(engine, "<|audio_code_17|><|audio_code_4|>", **short)
    made = acestep.create_sample(engine, "a sad song", instrumental=True, **short)
    kept = acestep.format_sample(engine, "techno", "[Verse]\nLa", bpm=77, **short)
    for said in (heard, made, kept):
        assert said.caption and said.timesignature and 30 <= said.bpm <= 300  # type: ignore[operator]
        assert sum(said.stages_s.values()) == pytest.approx(said.wall_s)
        assert said.counts.lm_decode_tokens > 16
    assert kept.bpm == 77 and made.instrumental and not heard.instrumental
    again = acestep.understand_music(engine, "<|audio_code_17|><|audio_code_4|>", **short)
    assert (again.caption, again.lyrics, again.bpm) == (heard.caption, heard.lyrics, heard.bpm)


def test_words_come_with_what_was_changed_about_the_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    smaller = Adjustment("lm", "4B", "0.6B", "is over the limit of tier4")
    changed = dataclasses.replace(engine.setup, adjustments=(smaller,), notes=("nothing is compiled",))
    monkeypatch.setattr(engine, "setup", changed)
    said = engine.create(DescriptionParams(max_caption_tokens=1, max_lyrics_tokens=1))
    assert said.warnings == ("lm: 4B is over the limit of tier4; using 0.6B", "nothing is compiled")


@pytest.mark.parametrize(
    ("duration", "thinking", "frames"), [(1, False, 128), (3.1, True, 128), (10.06, False, 252)]
)
def test_what_the_model_makes_beyond_the_length_asked_for_is_cut_off(
    engine: Engine, duration: float, thinking: bool, frames: int
):
    request = dataclasses.replace(PARAMS, duration=duration, thinking=thinking, inference_steps=1)
    result = engine.generate(request, seeded(1))
    assert result.counts.latent_frames == frames and result.counts.audio_s == duration
    assert result.audios[0].tensor.shape == (2, round(duration * 48_000))
    assert result.warnings == ()


@pytest.mark.parametrize(("duration", "thinking", "made"), [(10.1, False, 10.08), (10.06, True, 10.0)])
def test_where_less_is_made_than_asked_for_it_is_told(
    engine: Engine, duration: float, thinking: bool, made: float
):
    plan = engine.resolve(dataclasses.replace(PARAMS, duration=duration, thinking=thinking))
    assert [(a.field, a.requested, a.applied) for a in plan.adjustments] == [("duration", duration, made)]
    assert plan.params.duration == made


def test_codes_and_recordings_shorter_than_the_model_makes_keep_their_length(engine: Engine, tmp_path):
    import soundfile

    song = tmp_path / "song.wav"
    soundfile.write(song, [0.1] * 24_000, 8_000)
    few = {"inference_steps": 1, "duration": None}
    codes = dataclasses.replace(PARAMS, audio_codes="<|audio_code_5|>" * 10, **few)
    repaint = dataclasses.replace(PARAMS, task_type="repaint", src_audio=str(song), **few)
    for request, seconds in ((codes, 2), (repaint, 3)):
        [item] = engine.generate(request, seeded(1)).audios
        assert item.tensor.shape[1] == seconds * 48_000


@pytest.mark.parametrize("steps", [1, 16])
def test_any_step_count_runs(engine: Engine, steps: int):
    result = engine.generate(dataclasses.replace(PARAMS, inference_steps=steps), seeded(1))
    assert result.counts.dit_steps == len(result.steps_s) == steps


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_audio_is_saved_and_reads_back(engine: Engine, tmp_path, suffix: str):
    import soundfile

    result = engine.generate(PARAMS, GenerationConfig(1, (9,), suffix), tmp_path)
    assert result.audios[0].contents == f"{suffix.upper()} PCM_16, 48000 Hz"
    path = result.audios[0].path
    assert path == tmp_path / f"seed-9.{suffix}" and [p.name for p in tmp_path.iterdir()] == [path.name]
    data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == 48_000
    assert torch.allclose(torch.from_numpy(data.T), result.audios[0].tensor, atol=2 / 32768)


def test_a_folder_written_from_a_source_gives_the_sources_music(engine: Engine, tmp_path):
    write(Synthetic("synthetic-tiny"), tmp_path)
    from_disk = Engine.load(tmp_path, device="cpu").generate(THINKING, seeded(1))
    from_memory = engine.generate(THINKING, seeded(1))
    assert torch.equal(from_disk.audios[0].tensor, from_memory.audios[0].tensor)
    assert from_disk.environment["source"] == str(tmp_path)


def test_thinking_without_a_language_model_is_refused():
    engine = Engine.load("synthetic-tiny", device="cpu", lm=None)
    with pytest.raises(MissingPrerequisite, match="no language model"):
        engine.generate(THINKING, seeded(1))
    [made] = engine.generate(dataclasses.replace(PARAMS, bpm=None), seeded(1)).audios
    assert made.metadata["bpm"] is None


def test_broken_weights_are_an_error_not_music(monkeypatch: pytest.MonkeyPatch):
    engine = Engine.load("synthetic-tiny", device="cpu", lm=None)
    with torch.inference_mode():
        engine.models.ace_step.decoder.norm_out.weight.fill_(torch.nan)
    with pytest.raises(BenchError, match="NaN"):
        engine.generate(PARAMS, seeded(1))


def test_silence_is_noticed_and_not_saved(tmp_path):
    engine = Engine.load("synthetic-tiny", device="cpu", lm=None)
    with torch.inference_mode():
        engine.models.vae.decoder.conv2.weight.zero_()
    result = engine.generate(PARAMS, seeded(1), tmp_path)
    assert result.audios[0].silent and result.audios[0].path is None and "silent" in result.warnings[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "tpu9"}, UsageError, "auto, cuda"),
        ({"device": "meta"}, UsageError, "auto, cuda"),
        ({"dtype": "int3"}, UsageError, "bf16"),
        ({"lm": "gpt"}, UsageError, "acestep-5Hz-lm-0.6B"),
        ({"source": "/nowhere/at/all"}, MissingPrerequisite, "no folder"),
        ({"graphs": True}, MissingPrerequisite, "graphs: only CUDA records steps, and the device is cpu"),
    ],
)
def test_loading_refuses_what_it_cannot_do(options, error, words):
    with pytest.raises(error, match=words):
        Engine.load(**({"source": "synthetic-tiny", "device": "cpu"} | options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_an_absent_device_is_named_and_never_replaced():
    with pytest.raises(MissingPrerequisite, match="cuda is not available here"):
        Engine.load("synthetic-tiny", device="cuda")


def test_the_environment_says_what_ran(engine: Engine):
    ran = engine.environment
    assert ran["source"] == "synthetic-tiny" and ran["device"] == "cpu" and ran["dtype"] == "float32"
    assert ran["lm_backend"] == "pt" and ran["torch"] == torch.__version__
    assert next(engine.models.vae.parameters()).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("graphs", [False, True])
def test_no_step_waits_for_the_device(graphs: bool, monkeypatch: pytest.MonkeyPatch):
    engine = Engine.load("synthetic-tiny", device="cuda", compile=False, graphs=graphs)
    engine.generate(THINKING, seeded(1, 2))
    denoise = diffusion.denoise

    def strict(*arguments, **options):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return denoise(*arguments, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(diffusion, "denoise", strict)
    assert engine.generate(PARAMS, seeded(1)).counts.dit_steps == 4
