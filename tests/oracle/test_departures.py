"""Departures from upstream are those that the documentation lists, each as large as its formulas say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from places import ROOT

from acestep import GenerationConfig, GenerationParams, cuts, length
from acestep.diffusion import canvas
from acestep.diffusion.batches import MicroBatch
from acestep.diffusion.schedule import schedule
from acestep.engine import Engine
from acestep.text import audio_codes, conditioning, metadata, prompts
from acestep.text.metadata import Metadata
from harness.adjustments import Adjustments
from harness.errors import UsageError
from tests.oracle.departures import DEPARTURES, GOLDEN, METAS, TEXT2MUSIC, formulas, vocabulary

HEADING = "### Where the engine departs from upstream, and why"
NAMED = Metadata(bpm=91, duration=30, keyscale="A minor", timesignature="3")
SHORT = {"caption": "slow dub", "inference_steps": 1, "use_cot_metas": False}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("synthetic-tiny", device="cpu", lm=None)


def empty_steps(steps: int) -> int:
    times = torch.tensor([*schedule(steps, 3.0, turbo=False), 0.0]).bfloat16()
    return int((times[1:] == times[:-1]).sum())


def outpainted(engine: Engine) -> int:
    wave, _, _ = canvas.outpaint(torch.zeros(2, round(10.84 * 48_000)), -1.16, 1.0)
    return wave.shape[1] // 1920


def outpainted_words(engine: Engine) -> int:
    painted = {"repainting_start": -1.16, "repainting_end": 1.0}
    params = GenerationParams(task_type="repaint", src_audio="a.wav", **painted)
    params = length.resolved(params, 10.84, engine.setup, Adjustments(strict=True), 30)
    seconds = length.text_s(params, None, engine.setup)
    assert seconds is not None
    return int(seconds)


def three_seconds(engine: Engine) -> int:
    params = GenerationParams(duration=3.0, **SHORT)
    return engine.generate(params, GenerationConfig(seeds=(1,))).audios[0].tensor.shape[1]


def later_prompt(engine: Engine) -> int:
    """The engine's, without the three tokens that end it."""
    codes = audio_codes.join([17] * 30)
    params = GenerationParams(audio_codes=codes, audio_cover_strength=0.5, **SHORT)
    with torch.inference_mode():
        [[_, later]] = engine.generation(engine.resolve(params)).text_encode([batch(NAMED)])
    return later.caption.shape[1] - 3


def read_metadata(engine: Engine) -> bool:
    caption = prompts.bounded_caption(vocabulary(), TEXT2MUSIC, "dub " * 300, NAMED)
    parts = prompts.caption_prompt(TEXT2MUSIC, caption, NAMED)
    ids = prompts.encoder_ids(vocabulary(), parts, prompts.CAPTION_LIMIT)
    tail = vocabulary().encode(METAS)
    return ids[: -len(parts)][-len(tail) :] == tail


def lm_caption(engine: Engine) -> int:
    params = GenerationParams(caption="dub " * 600, thinking=True)
    both = {"plans_metadata": True, "plans_codes": True}
    texts_cut = cuts.generation_cuts(params, 30.0, (), **both, tokenizer=vocabulary)
    return next(cut.read for cut in texts_cut if cut.field == "caption")


def told_language(engine: Engine) -> str:
    """The language that reaches the lyric encoder."""
    languages = []

    def encode_text(*_: object, language: str, **__: object) -> None:
        languages.append(language)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditioning, "encode_text", encode_text)
        planned = batch(replace(NAMED, language="fr"))
        engine.generation(engine.resolve(GenerationParams(**SHORT))).text_encode([planned])
    return languages[0]


def words_among_codes(engine: Engine) -> str:
    with pytest.raises(UsageError, match="is no code"):
        audio_codes.parse("<|audio_code_1|> and <|audio_code_2|>")
    return "refused"


def batch(planned: Metadata) -> MicroBatch:
    return MicroBatch(planned, 128, 128 * 1920, (0,), ())


OURS: dict[str, Callable[[Engine], Any]] = {
    "turbo shift": lambda _: [schedule(8, shift, turbo=True) for shift in (1.4, 2.5, 5.0)],
    "turbo steps": lambda _: [len(schedule(steps, 1.0, turbo=True)) for steps in (4, 20)],
    "base times": lambda _: [empty_steps(steps) for steps in (50, 60)],
    "sde times": lambda _: [*schedule(4, 3.0, turbo=False)[1:], 0.0],
    "last timestep": lambda _: [
        list(step) for step in pairwise([*schedule(2, 1.0, turbo=False, timesteps=(1.0, 0.5)), 0.0])
    ],
    "region": lambda _: canvas.region_frames(1.16, 2.0, 100)[0],
    "outpaint": outpainted,
    "outpaint's words": outpainted_words,
    "shortest song": three_seconds,
    "VAE overlap": lambda engine: engine.models.vae.decoder.halo,
    "later prompt": later_prompt,
    "long caption": read_metadata,
    "LM caption": lm_caption,
    "planned language": told_language,
    "Norwegian": lambda _: Metadata(language="no").to_yaml(),
    "quotes": lambda _: metadata.parse("caption: 'dub: slow'").caption,
    "words among codes": words_among_codes,
}


def test_the_file_is_what_the_formulas_say() -> None:
    """Write it with `python tests/oracle/departures.py`."""
    assert json.loads(GOLDEN.read_text()) == formulas()


@pytest.mark.parametrize("departure", DEPARTURES)
def test_departure(departure: str, engine: Engine) -> None:
    golden = json.loads(GOLDEN.read_text())[departure]
    ours = OURS[departure](engine)
    assert ours == golden["ours"]
    assert ours != golden["theirs"]


def test_the_documentation_lists_them() -> None:
    text = (ROOT / "docs/architecture.md").read_text().split(HEADING)[1].split("\n##")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    sizes = {name: size for name, _, _, size, _ in rows[2:]}
    assert list(sizes) == list(DEPARTURES)
    for name, golden in formulas().items():
        assert sizes[name].startswith(golden["size"]), name
