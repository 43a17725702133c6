"""From latents to the items that are returned: rescaling, what is put back, level and fades."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from short_music import METADATA, SEEDED, SHORT

from acestep import GenerationConfig, GenerationParams
from acestep.audio import files, finishing
from acestep.engine import Engine
from acestep.lm import planner
from acestep.presets import PRESETS
from acestep.text.metadata import Metadata
from harness.errors import BenchError

RATE = 48_000
START, STOP = 2 * RATE, 4 * RATE
PAINTED = {"repainting_start": 2.0, "repainting_end": 4.0}


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> str:
    """Six seconds of noise at 44.1 kHz, on one channel."""
    path = tmp_path_factory.mktemp("audio") / "recording.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.4, 0.4, 6 * 44_100), 44_100)
    return str(path)


def params(**fields) -> GenerationParams:
    return GenerationParams(**SHORT | METADATA | fields)


def items(engine: Engine, config: GenerationConfig = SEEDED, **fields) -> list[np.ndarray]:
    return [item.tensor.numpy() for item in engine.generate(params(**fields), config).audios]


@pytest.mark.parametrize(
    ("task", "mode", "crossfade"),
    [
        ("repaint", {}, 1_200),
        ("lego", {"repaint_mode": "conservative"}, 2_400),
        ("repaint", {"repaint_strength": 1.0}, 0),
        ("lego", {"repaint_mode": "aggressive", "repaint_wav_crossfade_sec": 0.01}, 480),
    ],
    ids=str,
)
def test_outside_its_region_a_repaint_is_the_recording(
    engine: Engine, recording: str, task: str, mode: dict, crossfade: int, monkeypatch
):
    decoded = []
    spliced = finishing.spliced
    monkeypatch.setattr(finishing, "spliced", lambda *args: decoded.append(args[0]) or spliced(*args))
    config = GenerationConfig(batch_size=2, seeds=(1, 2))
    mixed = np.stack(items(engine, config, task_type=task, src_audio=recording, **PAINTED, **mode))
    kept = files.read(recording, "src_audio", 60)
    share = np.zeros(6 * RATE)
    share[START:STOP] = 1
    share[START - crossfade : START] = np.arange(1, crossfade + 1) / (crossfade + 1)
    share[STOP : STOP + crossfade] = np.arange(crossfade, 0, -1) / (crossfade + 1)
    [waves] = [wave.double().numpy() for wave in decoded]
    np.testing.assert_allclose(mixed, share * waves + (1 - share) * kept, rtol=0, atol=2e-7)
    assert np.array_equal(mixed[..., share == 0], np.broadcast_to(kept, mixed.shape)[..., share == 0])
    assert np.abs(waves - kept).max(-1).min() > 0.1  # the control: the VAE's way there and back is another


@pytest.mark.parametrize(
    "fields",
    [PAINTED | {"repaint_mode": "aggressive"}, {"repainting_start": 0.0, "repainting_end": 6.0}],
    ids=["aggressive", "whole"],
)
def test_nothing_is_put_back_where_nothing_is_kept(engine: Engine, recording: str, fields, monkeypatch):
    monkeypatch.delattr(finishing, "spliced")
    [wave] = items(engine, task_type="repaint", src_audio=recording, **fields)
    kept = files.read(recording, "src_audio", 60)
    assert np.abs(wave - kept)[:, 10_000:START].max() > 0.1


def test_what_was_put_back_is_normalised_then_faded(engine: Engine, recording: str):
    fields = {"task_type": "repaint", "src_audio": recording} | PAINTED
    [plain] = items(engine, **fields)
    level = {"enable_normalization": True, "normalization_db": -6.0, "fade_in_duration": 0.5}
    [finished] = items(engine, **fields, **level, fade_out_duration=4.0)
    gain = 10 ** (-6 / 20) / np.abs(plain).max()
    fades = np.ones(6 * RATE)
    fades[: RATE // 2] *= np.linspace(0, 1, RATE // 2)
    fades[2 * RATE :] *= np.linspace(1, 0, 4 * RATE)
    np.testing.assert_allclose(finished, plain.astype(float) * gain * fades, rtol=0, atol=3e-7)
    assert np.abs(finished - plain).max() > 0.1 and not finished[:, [0, -1]].any()


def test_with_normalisation_every_item_has_its_peak(engine: Engine):
    config = GenerationConfig(batch_size=2, seeds=(1, 2))
    result = engine.generate(params(enable_normalization=True, normalization_db=-12.0), config)
    peaks = [item.tensor.abs().max().item() for item in result.audios]
    assert peaks == pytest.approx([10 ** (-12 / 20)] * 2) == [item.peak for item in result.audios]


def test_latents_are_rescaled_and_shifted_before_they_are_decoded(engine: Engine):
    plan = engine.resolve(params(latent_rescale=1.3, latent_shift=-0.2), SEEDED)
    with torch.inference_mode():
        ran = engine.generation(plan).intermediates()
        latents = ran["latents"].double()
        expected, untouched, swapped = (
            engine.models.vae.decoder(each.float().transpose(1, 2))
            for each in (latents * 1.3 - 0.2, latents, (latents - 0.2) * 1.3)
        )
    assert torch.allclose(ran["audio"], expected, atol=1e-5)
    assert not torch.allclose(ran["audio"], untouched, atol=1e-3)
    assert not torch.allclose(ran["audio"], swapped, atol=1e-3)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize(
    "fields", [{}, {"enable_normalization": True, "fade_in_duration": 1.0}], ids=["", "level"]
)
def test_what_is_decoded_to_no_numbers_is_an_error_and_no_file(
    engine: Engine, tmp_path, value: float, fields
):
    """One sample of the second item, whatever is done to it afterwards."""
    calls = itertools.count()

    def spoil(_, __, wave: torch.Tensor) -> None:
        if next(calls) == 1:
            wave[0, 1, 7_000] = value

    config = GenerationConfig(batch_size=2, seeds=(1, 2))
    with engine.models.vae.decoder.register_forward_hook(spoil):
        with pytest.raises(BenchError, match="vae: samples of seed 2 are NaN or infinite"):
            engine.generate(params(**fields), config, tmp_path)
        assert not list(tmp_path.iterdir())
        engine.generate(params(**fields), config, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 and next(calls) == 4


def test_a_stream_of_no_numbers_ends_in_an_error(engine: Engine):
    def spoil(_, __, wave: torch.Tensor) -> None:
        wave[..., wave.shape[-1] // 2] = torch.nan

    broken = pytest.raises(BenchError, match="vae: samples of seed 1 are NaN or infinite")
    decoder, stream = engine.models.vae.decoder, engine.stream(params(), SEEDED)
    with decoder.register_forward_hook(spoil), stream, broken:
        list(stream)


@pytest.mark.parametrize(
    ("preset", "named_s", "limit_s", "seconds"),
    [
        pytest.param("upstream", None, 16, 16, marks=pytest.mark.nightly),
        pytest.param("fixed", None, 40, 30, marks=pytest.mark.nightly),
        ("fixed", None, 16, 16),
        ("upstream", 11, 16, 11),
    ],
)
def test_where_no_thought_names_a_length_it_is_the_presets(
    engine: Engine, monkeypatch, preset: str, named_s: int | None, limit_s: int, seconds: int
):
    """One length for the codes, the latents, the waveform and the words of the text."""
    monkeypatch.setattr(type(engine.setup), "max_duration_s", property(lambda _: limit_s))
    monkeypatch.setattr(planner, "parse", lambda text: Metadata(duration=named_s))
    free = {"use_constrained_decoding": False, "thinking": True, "use_cot_metas": True, "lm_temperature": 0.0}
    request = replace(PRESETS[preset].params, caption="a waltz", inference_steps=1, **free)
    config = replace(PRESETS[preset].config, batch_size=1, seeds=(1,))
    result = engine.generate(request, config)
    assert result.counts.audio_codes == 5 * seconds and result.counts.latent_frames == 25 * seconds
    assert result.audios[0].tensor.shape[1] == seconds * RATE
    assert result.audios[0].metadata["duration"] == seconds


def test_upstreams_length_is_two_minutes_where_nobody_says(engine: Engine):
    plan = engine.resolve(PRESETS["upstream"].params, PRESETS["upstream"].config)
    assert (plan.params.duration, plan.length_s(), plan.length_s(17)) == (None, 120, 17)


def test_a_fade_that_is_longer_than_a_planned_length_is_told(engine: Engine, monkeypatch):
    monkeypatch.setattr(type(engine.setup), "max_duration_s", property(lambda _: 12))
    open_length = params(duration=None, bpm=None, fade_in_duration=1.0, fade_out_duration=500.0)
    result = engine.generate(open_length, SEEDED)
    seconds = result.audios[0].tensor.shape[1] / RATE
    assert f"fade_out_duration: 500 is longer than the audio; using {seconds:g}" in result.warnings
    assert not any("fade_in" in warning for warning in result.warnings)
    told = engine.generate(replace(open_length, duration=6.0), SEEDED)
    assert [warning for warning in told.warnings if "fade" in warning] == [
        "fade_out_duration: 500 is longer than the audio; using 6"
    ]
