"""What is loaded when: the parts every request needs at once, the others when one needs them."""

from __future__ import annotations

import pytest
import torch
from at_home import CPU, XL, AtHome, load, networks

from acestep import components
from acestep.weights.layout import DEFAULT_DIT, LMS
from acestep.weights.loading import Models
from acestep.weights.synthetic import Synthetic
from harness.errors import UsageError
from harness.quantization import INT4


def on_meta(models: Models) -> set[str]:
    """Parts of which something lies on the meta device."""
    return {
        name
        for name, part in models.parts.items()
        if any(tensor.is_meta for module in part.modules for tensor in module.parameters())
    }


def test_what_is_needed_is_loaded_and_once() -> None:
    models = load(Synthetic("synthetic-tiny"))
    home = models.residency
    assert isinstance(home, AtHome)
    assert {part for part, _ in home.adopted} == set(components.usual(lm=True)) == models.loaded
    assert on_meta(models) == {"timbre", "tokenizer", "vae_encoder"}
    pooler = models.ace_step.tokenizer.attention_pooler
    models.need("tokenizer", "timbre", "dit")
    assert home.adopted[-2:] == [("tokenizer", 2), ("timbre", 1)]
    assert on_meta(models) == {"vae_encoder"}
    first = pooler.special_token
    models.need("tokenizer", "vae_encoder")
    assert home.adopted[-1] == ("vae_encoder", 1) and len(home.adopted) == len(set(home.adopted)) == 9
    assert models.ace_step.tokenizer.attention_pooler.special_token is first
    assert not any(tensor.is_meta for network in networks(models) for tensor in network.parameters())


def test_the_parts_are_everything_there_is() -> None:
    """Each tensor of each network lies in exactly one part, but for the one that always stays."""
    models = load(Synthetic("synthetic-tiny"))
    held = [id(t) for part in models.parts.values() for module in part.modules for t in module.parameters()]
    there = {id(tensor) for network in networks(models) for tensor in network.parameters()}
    assert len(held) == len(set(held))
    assert there - set(held) == {id(models.ace_step.null_condition_emb)}
    assert not models.ace_step.null_condition_emb.is_meta


def test_without_a_language_model_there_is_none() -> None:
    models = Models.open(
        Synthetic("synthetic-tiny"), DEFAULT_DIT, CPU, lambda _: torch.float32, None, AtHome()
    )
    assert models.lm is None
    with pytest.raises(KeyError):
        models.need("lm")
    with pytest.raises(UsageError, match="lm: 'gpt' is not allowed"):
        Models.open(Synthetic("synthetic-tiny"), DEFAULT_DIT, CPU, lambda _: torch.float32, "gpt", AtHome())


def test_a_part_can_be_loaded_by_itself() -> None:
    source = Synthetic("synthetic-tiny")
    models = Models.open(source, DEFAULT_DIT, CPU, lambda _: torch.float32, LMS[0], AtHome())
    assert models.loaded == set() == set(models.parts) - on_meta(models)
    models.need("lm")
    assert models.loaded == {"lm"} == set(models.parts) - on_meta(models)
    with pytest.raises(RuntimeError, match="condition"):
        _ = models.timbre_of_silence
    models.need("condition")
    assert models.timbre_of_silence.isfinite().all()


def test_a_language_model_is_laid_out_for_the_device_it_computes_on(monkeypatch) -> None:
    """Which is not the engine's where it is placed elsewhere."""
    there, home = torch.device("cuda:1"), AtHome()
    monkeypatch.setattr(home, "device_of", lambda part: there if part == components.LM else CPU)
    source = Synthetic("synthetic-tiny")
    models = Models.open(source, DEFAULT_DIT, CPU, lambda _: torch.float32, LMS[0], home, None, INT4)
    assert models.parts["lm"].device == models.place("lm") == there != models.device


@pytest.mark.parametrize("dit", [DEFAULT_DIT, XL])
def test_the_timbre_of_silence_is_that_of_the_first_clip_of_silence(dit: str) -> None:
    models = load(Synthetic("synthetic-tiny"), dit)
    assert models.timbre_of_silence.shape == (1, 1, models.config.encoder.hidden_size)
    models.need("timbre")
    timbre_encoder = models.ace_step.encoder.timbre_encoder
    with torch.no_grad():
        again, other = (timbre_encoder(models.silence[:, start : start + 750])[None] for start in (0, 750))
    assert torch.equal(models.timbre_of_silence, again)
    assert not torch.equal(models.timbre_of_silence, other)
