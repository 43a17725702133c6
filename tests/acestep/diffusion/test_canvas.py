"""The canvas: seconds land in the right frames, and each task sees what it is to see."""

from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from acestep.diffusion.canvas import (
    FRAME_SAMPLES,
    MIN_FRAMES,
    Canvas,
    cover,
    fit,
    from_codes,
    kept,
    latent_frames,
    outpaint,
    region_frames,
    silent,
)
from acestep.text.audio_codes import CODES

SECONDS = st.floats(-2000, 2000)
SILENCE = 10_000 + torch.arange(40.0)[None, :, None].expand(1, -1, 4)  # 40 frames, each with its number


def recording(frames: int, batch: int = 1) -> Tensor:
    """`[batch, frames, 4]`: positive, every frame and item with a number of its own."""
    return 1 + torch.arange(1.0 * batch * frames).reshape(batch, frames, 1).expand(-1, -1, 4)


class Codec:
    """A made-up tokenizer and detokenizer: a code is its group's first frame, and sounds like five of it."""

    def __init__(self):
        self.quantizer = SimpleNamespace(decode=lambda codes: codes[..., None].float().expand(-1, -1, 4))
        self.heard: list[Tensor] = []

    def __call__(self, latents: Tensor) -> Tensor:
        self.heard.append(latents)
        return latents.unflatten(1, (-1, 5))[:, :, 0, 0].long()


def model(codec: Codec):
    return SimpleNamespace(tokenizer=codec, detokenizer=lambda x: x.repeat_interleave(5, dim=1))


@pytest.mark.parametrize(
    ("seconds", "frames"), [(1.0, 128), (5.12, 128), (5.2, 130), (7.44, 185), (30, 750), (600, 15_000)]
)
def test_length_of_a_request(seconds: float, frames: int):
    assert latent_frames(seconds) == frames


@given(SECONDS, SECONDS | st.just(-1.0), st.integers(1, 40_000))
@example(0.0, -1.0, 1)
@example(1e-9, 1e-9, 1)
@example(1999.0, 0.0, 3)
def test_a_region_is_never_empty_and_never_outside(start: float, end: float, frames: int):
    a, b = region_frames(start, end, frames)
    assert 0 <= a < b <= frames


@given(st.integers(0, 15_000), st.integers(1, 15_000))
def test_seconds_of_whole_frames_are_those_frames(a: int, length: int):
    """As decimals, as a person writes them: 1.16 s is frame 29, though 1.16 · 25 is 28.999999999999996."""
    start, end = float(f"{a * 0.04:.2f}"), float(f"{(a + length) * 0.04:.2f}")
    assert region_frames(start, end, 40_000) == (a, a + length)


@given(st.decimals(0, 600, places=3), st.decimals(0, 600, places=3))
def test_a_region_holds_the_frames_its_edges_lie_in(start, end):
    a, b = region_frames(float(start), float(end), 15_001)
    assert a == int(Fraction(start) * 25)
    assert b == max(int(Fraction(end) * 25), a + 1)


def test_an_open_end_is_the_end_of_the_recording():
    assert region_frames(2.0, -1.0, 100) == (50, 100)
    assert region_frames(99.0, -1.0, 100) == (99, 100)
    assert region_frames(1.0, 99.0, 100) == (25, 100)


@given(
    samples=st.integers(1, 20_000),
    start=st.floats(-0.5, 0.5),
    end=st.floats(0, 1) | st.just(-1.0),
)
@example(1, -0.04, 0.04)
@example(1920, 0.0, -1.0)
@example(1920, 0.04, 0.0)
def test_outpainting_moves_recording_and_region_alike(samples: int, start: float, end: float):
    wave = torch.arange(1.0, samples + 1).expand(2, -1)
    longer, new_start, new_end = outpaint(wave, start, end)
    before = round(new_end * 48_000) - (samples if end < 0 else round(end * 48_000))
    after = longer.shape[1] - samples - before
    assert before >= 0 and after >= 0
    assert torch.equal(longer[:, before : before + samples], wave)
    assert not longer[:, :before].any() and not longer[:, before + samples :].any()
    # Only as much room as the region takes, and the region starts and ends where it did.
    assert before == max(round(-start * 48_000), 0) and after == max(round(end * 48_000) - samples, 0)
    assert new_start == pytest.approx(start + before / 48_000, abs=1 / 48_000) and new_start >= 0
    assert round(new_end * 48_000) <= longer.shape[1]
    frames = max(longer.shape[1] // FRAME_SAMPLES, 1)
    a, b = region_frames(new_start, new_end, frames)
    assert 0 <= a < b <= frames
    if start < 0:
        assert a == 0
    if after or end < 0:
        assert b == frames


def test_a_region_inside_changes_nothing():
    wave = torch.randn(2, 96_000)
    longer, start, end = outpaint(wave, 0.5, 1.5)
    assert torch.equal(longer, wave) and (start, end) == (0.5, 1.5)


@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 3))
def test_latents_are_cropped_or_followed_by_silence(held: int, frames: int, batch: int):
    latents = recording(held, batch)
    fitted = fit(latents, SILENCE, frames)
    assert fitted.shape == (batch, frames, 4)
    common = min(held, frames)
    assert torch.equal(fitted[:, :common], latents[:, :common])
    rest = 10_000 + torch.arange(frames - common) % 40
    assert torch.equal(fitted[:, common:, 0], rest.float().expand(batch, -1))


def test_context_is_source_then_mask_for_every_item():
    mask = torch.tensor([1.0, 0.0, 1.0])
    for items in (1, 3):
        context = Canvas(recording(3, items), mask).context(3)
        assert context.shape == (3, 3, 8)
        assert torch.equal(context[..., :4], recording(3, items).expand(3, -1, -1))
        assert torch.equal(context[..., 4:], mask[:, None].expand(3, -1, 4))


def test_a_silent_canvas_repeats_the_silence():
    canvas = silent(SILENCE, 100)
    assert torch.equal(canvas.source[0, :, 0], 10_000 + torch.arange(100.0) % 40)
    assert canvas.mask.shape == (100,) and canvas.mask.all()


@pytest.mark.parametrize(("frames", "heard"), [(20, 20), (15, 15), (17, 17), (23, 20)])
def test_codes_become_latents_of_the_length_asked_for(frames: int, heard: int):
    codes = torch.tensor([[1, 2, 3, 4], [5, 6, 7, CODES - 1]])
    canvas = from_codes(model(Codec()), codes, SILENCE, frames)
    assert canvas.source.shape == (2, frames, 4) and canvas.mask.all()
    assert torch.equal(canvas.source[..., 0][:, :heard], codes.repeat_interleave(5, 1)[:, :heard].float())
    assert torch.equal(canvas.source[0, heard:, 0], 10_000 + torch.arange(1.0 * frames - heard))


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 128, 131])
def test_a_cover_hears_the_recording_to_its_end(frames: int):
    codec = Codec()
    canvas, codes = cover(model(codec), recording(frames), SILENCE)
    groups = -(-frames // 5)
    assert codes.shape == (1, groups) and codes[0].tolist() == [1 + 5 * i for i in range(groups)]
    assert torch.equal(codec.heard[0], fit(recording(frames), SILENCE, 5 * groups))
    assert canvas.source.shape == (1, frames, 4) and canvas.mask.all()
    assert torch.equal(canvas.source[0, :, 0], codes[0].repeat_interleave(5)[:frames].float())


@given(st.data())
def test_repainting_erases_the_region_and_nothing_else(data):
    frames = data.draw(st.integers(1, 90))
    a = data.draw(st.integers(0, frames - 1))
    b = data.draw(st.integers(a + 1, frames))
    latents = recording(frames)
    canvas = kept(latents, SILENCE, (a, b), erase=True)
    inside = torch.zeros(frames, dtype=torch.bool)
    inside[a:b] = True
    assert torch.equal(canvas.mask, inside.float())
    assert torch.equal(canvas.source[:, ~inside], latents[:, ~inside])
    assert torch.equal(canvas.source[0, inside, 0], 10_000 + torch.arange(1.0 * a, b) % 40)
    added = kept(latents, SILENCE, (a, b))
    assert torch.equal(added.mask, canvas.mask) and torch.equal(added.source, latents)
    untold = kept(latents, SILENCE, (a, b), erase=True, explicit=False)
    assert torch.equal(untold.source, canvas.source) and untold.mask.eq(1).all()


def test_without_a_region_all_of_the_recording_is_heard_and_filled():
    canvas = kept(recording(MIN_FRAMES), SILENCE)
    assert torch.equal(canvas.source, recording(MIN_FRAMES)) and canvas.mask.all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_canvas_has_the_dtype_of_its_latents(dtype: torch.dtype):
    latents, silence = recording(10).to(dtype), SILENCE.to(dtype)
    for canvas in (silent(silence, 10), kept(latents, silence), kept(latents, silence, (2, 4), erase=True)):
        assert canvas.context(2).dtype == dtype
