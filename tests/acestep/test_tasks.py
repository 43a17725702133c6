"""Every task, variant and solver on tiny weights, from a real audio file to a finished result."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from acestep import GenerationConfig, GenerationParams
from acestep.engine import Engine
from acestep.tasks import TASKS
from acestep.text import audio_codes

METADATA = {"bpm": 120, "keyscale": "A minor", "timesignature": "4"}
SHORT = {"duration": 6, "inference_steps": 4}
REGION = {"repainting_start": 2.0, "repainting_end": 4.0}
SOURCE_TASKS = [name for name, task in TASKS.items() if task.source]


@pytest.fixture(scope="session")
def base() -> Engine:
    return Engine.load("synthetic-tiny", device="cpu", dit="acestep-v15-base", lm=None)


@pytest.fixture(scope="session")
def song(tmp_path_factory) -> str:
    """Six seconds of two tones at 44.1 kHz."""
    path = tmp_path_factory.mktemp("audio") / "song.flac"
    time = np.arange(6 * 44_100) / 44_100
    left, right = np.sin(2 * np.pi * 220 * time), np.sin(2 * np.pi * 330 * time)
    soundfile.write(path, 0.3 * np.stack((left, right), axis=1), 44_100)
    return str(path)


def params(**fields) -> GenerationParams:
    return GenerationParams(**({"caption": "slow dub techno"} | SHORT | METADATA | fields))


def seeded(*seeds: int) -> GenerationConfig:
    return GenerationConfig(batch_size=len(seeds), seeds=seeds)


def audio(engine: Engine, config: GenerationConfig | None = None, **fields) -> torch.Tensor:
    result = engine.generate(params(**fields), config or seeded(1))
    return torch.stack([item.tensor for item in result.audios])


@pytest.mark.parametrize("task", SOURCE_TASKS)
def test_a_task_gives_music_as_long_as_its_recording(engine: Engine, song: str, task: str):
    result = engine.generate(params(task_type=task, src_audio=song, **REGION), seeded(1, 2))
    assert [item.tensor.shape for item in result.audios] == [(2, 6 * 48_000)] * 2
    assert all(item.tensor.isfinite().all() and item.rms > 0 for item in result.audios)
    assert list(result.stages_s)[:2] == ["load_audio", "vae_encode"]
    assert result.counts.vae_encode_tiles == 1 and result.counts.lm_decode_tokens == 0
    assert result.audios[0].metadata["duration"] == 6


def test_the_tasks_are_told_apart(engine: Engine, song: str):
    waves = [audio(engine, task_type=task, src_audio=song, **REGION) for task in SOURCE_TASKS]
    for first in range(len(waves)):
        for second in range(first):
            assert not torch.allclose(waves[first], waves[second], atol=1e-4)


@pytest.mark.parametrize(("variant", "fade"), [("base", 0), ("base", 10), ("engine", 10)])
@pytest.mark.parametrize("task", ["repaint", "lego"])
def test_what_is_not_painted_stays_to_the_bit(variant, fade: int, task: str, song: str, request):
    engine: Engine = request.getfixturevalue(variant)
    injection = {"repaint_injection_ratio": 1.0, "repaint_latent_crossfade_frames": fade}
    painting = params(task_type=task, src_audio=song, **REGION, **injection)
    generation = engine.generation(engine.resolve(painting, seeded(1)))
    with torch.inference_mode():
        inputs, latents = generation.encode_inputs(), generation.intermediates()["latents"]
    source = inputs.source
    assert source is not None and inputs.region == (50, 100)
    outside = torch.cat((latents[:, : 50 - fade], latents[:, 100 + fade :]), dim=1)
    assert torch.equal(outside, torch.cat((source[:, : 50 - fade], source[:, 100 + fade :]), dim=1))
    assert not torch.isclose(latents[:, 50:100], source[:, 50:100]).all(-1).any()


def test_a_region_may_reach_out_of_the_recording(engine: Engine, song: str):
    region = {"repainting_start": -2.0, "repainting_end": 8.0}
    result = engine.generate(params(task_type="repaint", src_audio=song, **region), seeded(1))
    assert result.audios[0].tensor.shape[1] == 10 * 48_000


def test_a_cover_of_a_recording_is_a_cover_of_its_codes(engine: Engine, song: str):
    heard = engine.generate(params(task_type="cover", src_audio=song), seeded(1)).audios[0]
    assert len(audio_codes.parse(heard.codes)) == 30 and heard.codes == engine.audio_codes(song)
    retold = audio(engine, task_type="cover", audio_codes=heard.codes)[0]
    assert torch.equal(heard.tensor, retold)


def test_given_codes_are_followed_and_reported(engine: Engine):
    codes = audio_codes.join(range(0, 60_000, 2_000))
    result = engine.generate(params(audio_codes=codes), seeded(1, 2))
    assert [item.codes for item in result.audios] == [codes, codes]
    assert result.counts.latent_frames == 150 and result.counts.lm_decode_tokens == 0
    assert not torch.allclose(result.audios[0].tensor, audio(engine)[0], atol=1e-3)


def test_planned_codes_can_be_given_back(engine: Engine):
    planned = engine.generate(params(thinking=True), seeded(1)).audios[0]
    again = audio(engine, audio_codes=planned.codes)[0]
    assert torch.equal(planned.tensor, again)


def test_a_cover_that_follows_nothing_is_text_to_music(engine: Engine, song: str):
    free = audio(engine, task_type="cover", src_audio=song, audio_cover_strength=0.0)
    assert torch.equal(free, audio(engine))
    half = audio(engine, task_type="cover", src_audio=song, audio_cover_strength=0.5)
    full = audio(engine, task_type="cover", src_audio=song)
    assert not torch.allclose(half, free, atol=1e-4) and not torch.allclose(half, full, atol=1e-4)


def test_a_cover_can_start_closer_to_its_source(engine: Engine, song: str):
    result = engine.generate(params(task_type="cover", src_audio=song, cover_noise_strength=0.5), seeded(1))
    assert result.counts.dit_steps == result.plan["steps"] == len(result.plan["times"]) == 2
    free = engine.generate(params(cover_noise_strength=0.5), seeded(1))
    assert free.counts.dit_steps == free.plan["steps"] == 4
    assert [a["field"] for a in free.plan["adjustments"]] == ["cover_noise_strength"]
    assert torch.equal(free.audios[0].tensor, audio(engine)[0])
    assert not torch.allclose(result.audios[0].tensor, audio(engine, task_type="cover", src_audio=song)[0])


def test_references_set_the_timbre_and_silence_is_none(engine: Engine, song: str, tmp_path):
    other = tmp_path / "other.wav"
    noise = np.random.default_rng(1).normal(0, 0.1, 16_000)
    soundfile.write(other, noise, 16_000)
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, np.zeros(16_000), 16_000)
    plain, one = audio(engine), audio(engine, reference_audio=song)
    both = engine.generate(params(reference_audio=(song, str(other))), seeded(1))
    assert not torch.allclose(plain, one, atol=1e-4)
    assert not torch.allclose(one[0], both.audios[0].tensor, atol=1e-4)
    assert torch.equal(plain, audio(engine, reference_audio=str(quiet)))
    assert both.counts.encoder_tokens == engine.generate(params(), seeded(1)).counts.encoder_tokens + 1


@pytest.mark.parametrize("mode", ["apg", "adg", "cfg"])
@pytest.mark.parametrize("method", ["ode", "sde", "heun"])
def test_base_weights_can_be_guided_in_every_way(base: Engine, method: str, mode: str):
    few = {"infer_method": method, "guidance_mode": mode}
    result = base.generate(params(**few, guidance_scale=4.0), seeded(1))
    assert result.counts.dit_steps == 4
    assert result.counts.dit_calls == (8 if method == "heun" else 4)
    assert not torch.allclose(result.audios[0].tensor, audio(base, **few, guidance_scale=1.0)[0], atol=1e-4)


def test_outside_its_interval_guidance_is_off(base: Engine):
    never = audio(base, guidance_scale=4.0, cfg_interval_start=0.01, cfg_interval_end=0.02)
    assert torch.equal(never, audio(base, guidance_scale=1.0))


def test_base_weights_run_fifty_steps_unless_told(base: Engine):
    assert base.resolve(params(inference_steps=None)).as_dict()["steps"] == 50
    assert base.environment["dit"] == "acestep-v15-base"


def test_custom_times_are_the_schedule(base: Engine):
    times = (1.0, 0.6, 0.25)
    plan = base.generate(params(timesteps=times, guidance_scale=1.0), seeded(1)).plan
    assert plan["times"] == pytest.approx(times)


@pytest.mark.parametrize("dit", ["acestep-v15-xl-turbo", "acestep-v15-xl-base"])
def test_the_xl_family_makes_music_and_takes_references(dit: str, song: str):
    engine = Engine.load("synthetic-tiny", device="cpu", dit=dit, lm=None)
    made = audio(engine, reference_audio=song)
    assert made.isfinite().all() and made.abs().max() > 0


CASES = {
    "text2music": {},
    "open metadata and length": {"bpm": None, "duration": None, "thinking": True, "use_cot_language": True}
    | {"lm_temperature": 2.0, "lm_top_p": 1.0, "lm_cfg_scale": 1.5},  # made-up weights hardly vary otherwise
    "sde": {"infer_method": "sde"},
    "dcw": {"dcw_enabled": True, "velocity_ema_factor": 0.2, "velocity_norm_threshold": 0.5},
    "edit": {"task_type": "cover", "flow_edit_morph": True, "flow_edit_source_caption": "a waltz"},
    "cover": {"task_type": "cover"},
    "repaint": {"task_type": "repaint", **REGION},
}


@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_its_items_run_alone_and_again(engine: Engine, song: str, case: str, monkeypatch):
    fields = dict(CASES[case])
    if "task_type" in fields:
        fields["src_audio"] = song
    monkeypatch.setattr(
        type(engine.setup), "max_duration_s", property(lambda _: 16)
    )  # open lengths stay short
    together, again = (engine.generate(params(**fields), seeded(11, 13)) for _ in range(2))
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(together.audios, again.audios, strict=True))
    first, second = together.audios
    inside = slice(3 * 48_000, 3 * 48_000 + 1000)  # of the region: around it a repaint is the recording
    assert not torch.equal(first.tensor[:, inside], second.tensor[:, inside])
    for item in together.audios:
        [alone] = engine.generate(params(**fields), seeded(item.seed)).audios
        assert item.codes == alone.codes and item.metadata == alone.metadata
        assert torch.allclose(item.tensor, alone.tensor, atol=2e-4)
    if fields.get("duration", 6) is None:
        assert len({item.tensor.shape for item in together.audios}) > 1


def test_a_clamped_request_runs_clamped_and_says_so(engine: Engine, monkeypatch):
    monkeypatch.setattr(type(engine.setup), "max_duration_s", property(lambda _: 7.0))
    result = engine.generate(params(duration=60), seeded(1))
    assert result.counts.audio_s == 7
    assert len(result.warnings) == 1 and "duration: 60" in result.warnings[0]
    assert result.plan["adjustments"][0]["applied"] == 7
    assert dataclasses.asdict(engine.resolve(params(duration=60)).adjustments[0])["field"] == "duration"
