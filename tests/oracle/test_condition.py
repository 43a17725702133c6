"""The condition encoder against diffusers': lyric and timbre encoders, text projection, packing.

Padded outputs are compared too: the DiT does not mask its condition tokens, so in a batch of unequal
prompts they are attended to.

diffusers pools timbre at the first frame in both families. XL pools at a learned token before it, which
the oracle is given here, between its embedding and its blocks; the rest is diffusers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest
import torch
from oracles import (
    DTYPES,
    LIMITS,
    assert_close,
    assert_trips,
    precision,
    random_tensor,
    randomise,
)
from torch import Tensor, nn

from acestep import oracles
from acestep.models import condition
from acestep.models.condition import ConditionEncoder
from acestep.models.configs import DiTConfig
from harness.nn.blocks import rope_table

WINDOW = 4
CONFIG = DiTConfig(
    model_type="acestep",
    hidden_size=32,
    intermediate_size=40,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_hidden_layers=1,
    layer_types=["sliding_attention"],
    sliding_window=WINDOW,
    audio_acoustic_hidden_dim=6,
    text_hidden_dim=20,
    num_lyric_encoder_hidden_layers=3,
    num_timbre_encoder_hidden_layers=4,
    fsq_input_levels=[8, 8, 8, 5, 5, 5],
)
XL_CONFIG = msgspec.structs.replace(
    CONFIG,
    hidden_size=56,
    intermediate_size=72,
    num_attention_heads=14,
    num_key_value_heads=7,
    encoder_hidden_size=32,
    encoder_intermediate_size=40,
    encoder_num_attention_heads=4,
    encoder_num_key_value_heads=2,
)
FAMILIES = pytest.mark.parametrize("config", [CONFIG, XL_CONFIG], ids=["2B", "XL"])
LENGTHS = (1, WINDOW, WINDOW + 1, WINDOW + 2, 2 * WINDOW, 3 * WINDOW + 1, 23)


class Prepended(nn.Module):
    """An embedding whose output starts with a token."""

    def __init__(self, token: Tensor, embed: nn.Module):
        super().__init__()
        self.token = token
        self.embed = embed

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(len(x), 1, -1), self.embed(x)], dim=1)


class Pair:
    """Ours and theirs with the same weights; the parts are reached as attributes of both."""

    def __init__(self, dtype: torch.dtype, config: DiTConfig = CONFIG):
        self.dtype = dtype
        self.ours = randomise(ConditionEncoder(config))
        self.theirs = oracles.diffusers_condition_encoder(config, self.ours, dtype)
        self.ours.to(dtype)
        if config is XL_CONFIG:
            timbre = self.theirs.timbre_encoder
            timbre.embed_tokens = Prepended(timbre.special_token, timbre.embed_tokens)

    def words(self, batch: int, length: int, seed: int) -> Tensor:
        return random_tensor(batch, length, CONFIG.text_hidden_dim, seed=seed, dtype=self.dtype)

    def clips(self, count: int, frames: int) -> Tensor:
        return random_tensor(count, frames, CONFIG.audio_acoustic_hidden_dim, seed=3, dtype=self.dtype)

    def oracle_lyrics(self, x: Tensor, valid: Tensor) -> Tensor:
        with precision(self.dtype):
            return self.theirs.lyric_encoder(x, valid.long())

    def oracle_timbre(self, clips: Tensor) -> Tensor:
        with precision(self.dtype):
            vectors, mask = self.theirs.timbre_encoder(clips, torch.arange(len(clips)))
        assert mask.all()
        return vectors[:, 0]

    def oracle(
        self,
        text: Tensor,
        text_valid: Tensor,
        lyrics: Tensor,
        lyrics_valid: Tensor,
        clips: Tensor,
        owners: Sequence[int] = (0, 1),
    ) -> tuple[Tensor, Tensor]:
        """`owners`: the item of the batch that each clip belongs to."""
        order = torch.tensor(owners)
        with precision(self.dtype):
            return self.theirs(text, text_valid.long(), lyrics, lyrics_valid.long(), clips, order)


def padded(length: int, *counts: int) -> Tensor:
    """Masks `[len(counts), length]` with the first `count` tokens valid."""
    return torch.arange(length) < torch.tensor(counts)[:, None]


@DTYPES
@pytest.mark.parametrize("length", LENGTHS)
def test_lyrics_without_padding(length: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    x, valid = pair.words(2, length, seed=1), padded(length, length, length)
    theirs = pair.oracle_lyrics(x, valid)
    for mask in (None, valid):
        assert_close(pair.ours.lyric_encoder(x, mask), theirs, LIMITS[dtype], "lyric encoder")


@DTYPES
@pytest.mark.parametrize("shortest", [1, 2 * WINDOW])
def test_lyrics_with_padding(shortest: int, dtype: torch.dtype) -> None:
    """Padding longer than the window leaves queries with no key to see, and no NaN."""
    pair = Pair(dtype)
    x, valid = pair.words(3, 23, seed=1), padded(23, shortest, 23, 17)
    ours, theirs = pair.ours.lyric_encoder(x, valid), pair.oracle_lyrics(x, valid)
    assert_close(ours, theirs, LIMITS[dtype], "lyric encoder, padded")


@FAMILIES
@DTYPES
@pytest.mark.parametrize("frames", LENGTHS)
def test_timbre(frames: int, dtype: torch.dtype, config: DiTConfig) -> None:
    pair = Pair(dtype, config)
    clips = pair.clips(3, frames)
    assert_close(pair.ours.timbre_encoder(clips), pair.oracle_timbre(clips), LIMITS[dtype], "timbre encoder")


@FAMILIES
@DTYPES
@pytest.mark.parametrize("masked", ["neither", "text", "lyrics", "both"])
def test_packing(masked: str, dtype: torch.dtype, config: DiTConfig) -> None:
    """Masks left out stand for all ones; what is masked moves behind everything valid, in order."""
    pair = Pair(dtype, config)
    text, lyrics, clips = pair.words(2, 6, seed=1), pair.words(2, 11, seed=2), pair.clips(2, 9)
    text_valid = padded(6, 2, 6) if masked in ("text", "both") else padded(6, 6, 6)
    lyrics_valid = padded(11, 11, 3) if masked in ("lyrics", "both") else padded(11, 11, 11)
    theirs, their_mask = pair.oracle(text, text_valid, lyrics, lyrics_valid, clips)
    ours, mask = pair.ours(
        text,
        text_valid if masked in ("text", "both") else None,
        lyrics,
        lyrics_valid if masked in ("lyrics", "both") else None,
        pair.ours.timbre_encoder(clips)[:, None],
    )
    assert torch.equal(mask, their_mask)
    assert_close(ours, theirs, LIMITS[dtype], "condition encoder")


def by_owner(vectors: Tensor, owners: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Vectors `[N, D]` as `[B, most, D]`, each item's in order and zeros after them, and which are real."""
    rows = [[v for v, owner in zip(vectors, owners, strict=True) if owner == item] for item in (0, 1)]
    most = max(map(len, rows))
    table = torch.stack([torch.stack(row + [0 * vectors[0]] * (most - len(row))) for row in rows])
    return table, padded(most, *map(len, rows))


@FAMILIES
@DTYPES
@pytest.mark.parametrize("owners", [(0, 0, 1, 1), (0, 0, 0, 1), (1, 0, 1, 1, 1)], ids=str)
def test_several_references(owners: tuple[int, ...], dtype: torch.dtype, config: DiTConfig) -> None:
    """Each item has clips of its own, as many as it has; missing ones are packed behind, like padding."""
    pair = Pair(dtype, config)
    text, lyrics, clips = pair.words(2, 6, seed=1), pair.words(2, 11, seed=2), pair.clips(len(owners), 9)
    masks = padded(6, 2, 6), padded(11, 11, 3)
    theirs, their_mask = pair.oracle(text, masks[0], lyrics, masks[1], clips, owners)
    timbre, timbre_valid = by_owner(pair.ours.timbre_encoder(clips), owners)
    ours, mask = pair.ours(text, masks[0], lyrics, masks[1], timbre, timbre_valid)
    assert torch.equal(mask, their_mask)
    assert_close(ours, theirs, LIMITS[dtype], "condition encoder, several references")
    swapped, _ = pair.ours(text, masks[0], lyrics, masks[1], timbre.flip(1), timbre_valid.flip(1))
    assert_trips(
        swapped, theirs, LIMITS[torch.float32], "condition encoder, several references", "clips reversed"
    )


Damage = Callable[[Pair, pytest.MonkeyPatch], None]


def _window(by: int) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        pair.ours.lyric_encoder.window += by
        pair.ours.timbre_encoder.window += by

    return damage


def _pool(position: int) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        norm = pair.ours.timbre_encoder.norm
        patch.setattr(norm, "forward", lambda x, forward=norm.forward: forward(x).roll(-position, 1))

    return damage


def _prepend_the_other_way(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    """2B with the token before the first frame, XL without: what the other family does."""
    timbre = pair.ours.timbre_encoder
    patch.setattr(timbre, "prepends", not timbre.prepends)


def _text_first(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    """Pack text where lyrics belong."""
    forward = pair.ours.forward

    def swapped(text: Tensor, *inputs: Tensor):
        tokens, valid = forward(text, *inputs)
        return tokens.roll(text.shape[1], 1), valid

    patch.setattr(pair.ours, "forward", swapped)


def _swap_kinds(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    for encoder in (pair.ours.lyric_encoder, pair.ours.timbre_encoder):
        attend = encoder._attend
        patch.setattr(encoder, "_attend", lambda *inputs, attend=attend: attend(*inputs)[::-1])


def _ignore_padding(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    lyrics = pair.ours.lyric_encoder
    run = lyrics.run
    patch.setattr(lyrics, "run", lambda x, valid=None: run(x, None))


def _swap_rope(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(condition, "rope_table", lambda *inputs: rope_table(*inputs)[::-1])


CONTROLS: dict[str, Damage] = {
    "lyric bias dropped": lambda pair, patch: pair.ours.lyric_encoder.embed_tokens.bias.zero_(),
    "timbre bias dropped": lambda pair, patch: pair.ours.timbre_encoder.embed_tokens.bias.zero_(),
    "timbre pooled at the last output": _pool(-1),
    "timbre pooled at the second output": _pool(1),
    "timbre token of the other family": _prepend_the_other_way,
    "window one short": _window(-1),
    "window one long": _window(+1),
    "sliding and full swapped": _swap_kinds,
    "padding attended to": _ignore_padding,
    "cos and sin swapped": _swap_rope,
    "text before lyrics": _text_first,
}


@FAMILIES
@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str, config: DiTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64, config)
    text, lyrics, clips = pair.words(2, 6, seed=1), pair.words(2, 11, seed=2), pair.clips(2, 13)
    masks = padded(6, 6, 6), padded(11, 11, 9)
    theirs, _ = pair.oracle(text, masks[0], lyrics, masks[1], clips)
    CONTROLS[control](pair, monkeypatch)
    ours, _ = pair.ours(text, masks[0], lyrics, masks[1], pair.ours.timbre_encoder(clips)[:, None])
    model = "condition encoder, XL" if config.is_xl else "condition encoder"
    assert_trips(ours, theirs, LIMITS[torch.float32], model, control)


def test_the_token_is_read_in_xl_alone() -> None:
    for config, reads in ((CONFIG, False), (XL_CONFIG, True)):
        timbre, clips = Pair(torch.float64, config).ours.timbre_encoder, random_tensor(2, 9, 6)
        before = timbre(clips)
        timbre.special_token.add_(1)
        assert torch.equal(timbre(clips), before) != reads


def test_a_wrong_encoder_width_is_an_error() -> None:
    """The oracle takes our weights by strict names and shapes: a DiT-wide encoder is refused."""
    state = Pair(torch.float64, XL_CONFIG).ours.state_dict()
    wide = ConditionEncoder(msgspec.structs.replace(XL_CONFIG, encoder_hidden_size=None))
    with pytest.raises(RuntimeError, match="size mismatch"):
        wide.load_state_dict(state)
