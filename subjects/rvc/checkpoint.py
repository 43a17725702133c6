"""What a model is, by its files or of a made-up one, held to the range of each field and to itself.

A source is `synthetic-tiny`, `synthetic-full`, or a folder of `subjects.rvc.layout`; a voice is one of a
folder's, or a file by itself. No torch is imported, but for a pickle: nothing else reads one safely.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from harness.checkpoint_files import opened, read_json
from harness.checks import listed, shown
from harness.errors import CheckpointError, UsageError
from harness.nn.config import Heads, Layers, Schema, Width, parse_config
from harness.tensor_files import Shape, is_there, stored_tensors
from subjects.rvc.config import (
    FRAME_RATE,
    HUBERT_HOP,
    RATES,
    Configs,
    HubertConfig,
    RMVPEConfig,
    SynthesizerConfig,
)
from subjects.rvc.layout import (
    CONFIG,
    DEFAULT_RATE,
    F0,
    HUBERT,
    NESTED,
    POSITIONS,
    RATE,
    RMVPE,
    SUPPORTED,
    SYNTHETIC,
    VERSION,
    VOICE_SUFFIX,
    WEIGHT,
)
from subjects.rvc.synthetic_configs import configs as synthetic

Kernel = Annotated[int, Meta(ge=1, le=255)]
MOST_LEVELS = 8


class HubertFile(Schema, frozen=True, kw_only=True):
    """As much of HuBERT's `config.json` as shapes it."""

    MODEL_TYPE = "hubert"

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Heads
    conv_dim: Annotated[list[Width], Meta(min_length=1, max_length=16)]
    conv_kernel: Annotated[list[Kernel], Meta(min_length=1, max_length=16)]
    conv_stride: Annotated[list[Kernel], Meta(min_length=1, max_length=16)]
    num_conv_pos_embeddings: Annotated[int, Meta(ge=2, le=1024)] = 128
    num_conv_pos_embedding_groups: Heads = 16
    layer_norm_eps: Annotated[float, Meta(ge=1e-12, le=0.01)] = 1e-5
    hidden_act: Literal["gelu"] = "gelu"
    feat_extract_norm: Literal["group"] = "group"
    conv_bias: bool = False
    do_stable_layer_norm: bool = False

    def contradiction(self) -> str | None:
        if self.hidden_size % self.num_attention_heads:
            return f"num_attention_heads: {self.num_attention_heads} does not divide {self.hidden_size}"
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            return f"num_conv_pos_embedding_groups: does not divide {self.hidden_size}"
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            return "conv_dim, conv_kernel, conv_stride: are not of one length"
        if len(set(self.conv_dim)) > 1:
            return "conv_dim: convolutions of different widths are not supported"
        if prod(self.conv_stride) != HUBERT_HOP:
            return f"conv_stride: a frame is {prod(self.conv_stride)} samples; {HUBERT_HOP} are needed"
        if self.conv_bias or self.do_stable_layer_norm:
            return "conv_bias, do_stable_layer_norm: true is not allowed; use false, HuBERT base"
        return None


class VoiceFile(Schema, frozen=True, kw_only=True):
    """The list `config` of a voice, by what stands where."""

    spec_channels: Width
    segment_size: Annotated[int, Meta(ge=1, le=2**20)]
    inter_channels: Annotated[int, Meta(ge=2, le=4096, multiple_of=2)]  # the flow couples its halves
    hidden_channels: Annotated[int, Meta(ge=1, le=4096)]
    filter_channels: Annotated[int, Meta(ge=1, le=16_384)]
    n_heads: Annotated[int, Meta(ge=1, le=64)]
    n_layers: Annotated[int, Meta(ge=1, le=64)]
    kernel_size: Kernel
    p_dropout: Annotated[float, Meta(ge=0, le=1)]
    resblock: Literal["1"]
    resblock_kernel_sizes: Annotated[list[Kernel], Meta(min_length=1, max_length=8)]
    resblock_dilation_sizes: Annotated[
        list[Annotated[list[Kernel], Meta(min_length=1, max_length=8)]], Meta(min_length=1, max_length=8)
    ]
    upsample_rates: Annotated[list[Annotated[int, Meta(ge=1, le=64)]], Meta(min_length=1, max_length=8)]
    upsample_initial_channel: Annotated[int, Meta(ge=1, le=8192)]
    upsample_kernel_sizes: Annotated[list[Kernel], Meta(min_length=1, max_length=8)]
    spk_embed_dim: Annotated[int, Meta(ge=1, le=65_536)]
    gin_channels: Annotated[int, Meta(ge=1, le=4096)]
    sr: Literal[48_000, 40_000, 32_000]

    def contradiction(self) -> str | None:
        if (hop := prod(self.upsample_rates)) * FRAME_RATE != self.sr:
            return f"upsample_rates: make {hop} samples of a frame; {self.sr} Hz has {self.sr // FRAME_RATE}"
        kernels = self.upsample_kernel_sizes
        if len(kernels) != len(self.upsample_rates):
            return f"upsample_kernel_sizes: {len(kernels)} for {len(self.upsample_rates)} upsample_rates"
        if any(k < u or (k - u) % 2 for k, u in zip(kernels, self.upsample_rates, strict=True)):
            return f"upsample_kernel_sizes: {kernels} must be as large as upsample_rates, by even numbers"
        if self.hidden_channels % self.n_heads:
            return f"n_heads: {self.n_heads} does not divide hidden_channels, {self.hidden_channels}"
        if self.upsample_initial_channel % 2 ** len(kernels):
            return f"upsample_initial_channel: is not divided by 2 so often as there are {len(kernels)} rates"
        dilations = self.resblock_dilation_sizes
        if len(dilations) != len(self.resblock_kernel_sizes) or any(d != dilations[0] for d in dilations):
            return "resblock_dilation_sizes: must be one list, for each of resblock_kernel_sizes"
        if not all(size % 2 for size in (self.kernel_size, *self.resblock_kernel_sizes)):
            return "kernel_size, resblock_kernel_sizes: must be odd"
        return None


class Voice(NamedTuple):
    """A voice's file: its dimensions, its tensors by name, and what it says that is not so."""

    config: SynthesizerConfig
    weights: Mapping[str, Any]
    notes: tuple[str, ...]


def voice_path(source: str, model: str | None) -> Path:
    """The file of the voice `model` of a folder, which need not be named where there is one.

    Raises UsageError where it is not clear which, CheckpointError where there is none.
    """
    voices = {path.stem: path for path in sorted(Path(source).glob(f"*{VOICE_SUFFIX}"))}
    if not voices:
        raise CheckpointError(f"{source}: has no voice, a file *{VOICE_SUFFIX}; is the download complete?")
    if model is None and len(voices) == 1:
        return next(iter(voices.values()))
    if model not in voices:
        wrong = f"{model!r} is not one" if model else "it has more than one"
        raise UsageError(f"model: which voice of {source}? {wrong}; use one of {listed([*voices])}")
    return voices[model]


@cache
def read(source: str, model: str | None = None, voice: str | None = None) -> Configs:
    """The dimensions of `source`'s networks; `model` names its voice (of a synthetic one 48k, 40k or 32k),
    `voice` a file instead.

    Raises UsageError for another model than the source's, CheckpointError for a file that is wrong.
    """
    if source in SYNTHETIC:
        rate = model or DEFAULT_RATE
        if rate not in RATES:
            raise UsageError(f"model: {rate!r} is not allowed; use one of {', '.join(RATES)}")
        configs = synthetic(source, rate)
        if voice is None:
            return configs
        rmvpe, hubert = configs.rmvpe, configs.hubert
    else:
        rmvpe, hubert = _rmvpe(Path(source)), _hubert(Path(source) / HUBERT / "config.json")
    place = Path(voice) if voice else voice_path(source, model)
    synthesizer, _, notes = read_voice(place)
    if synthesizer.phone != hubert.hidden:
        raise CheckpointError(
            f"{place}: is for features of {synthesizer.phone}, and HuBERT of {source} has {hubert.hidden}"
        )
    return Configs(rmvpe, hubert, synthesizer, notes)


def read_voice(path: Path) -> Voice:
    """The voice in the file at `path`. Imports torch.

    Raises CheckpointError naming the file, the field and what is allowed.
    """
    content = _pickle(path)
    from harness.pickled import PickledWeights

    if (version := content.get(VERSION, "v1")) != SUPPORTED:
        raise CheckpointError(f"{path}: version: {shown(version)} is not supported; use {SUPPORTED}")
    if content.get(F0, 1) != 1:
        raise CheckpointError(f"{path}: f0: {shown(content[F0])} is not supported: a voice without pitch")
    values = content.get(CONFIG)
    if not isinstance(values, list | tuple) or len(values) != len(POSITIONS):
        raise CheckpointError(f"{path}: config: must be a list of {len(POSITIONS)}; is this a voice?")
    file = parse_config(dict(zip(POSITIONS, values, strict=True)), VoiceFile, f"{path}: config")
    weights = content.get(WEIGHT)
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: weight: must be the tensors by name; is this a voice?")
    shapes = PickledWeights(str(path), weights).shapes()
    speakers, _ = _matrix(path, shapes, "emb_g.weight")
    _, phone = _matrix(path, shapes, "enc_p.emb_phone.weight")
    config = SynthesizerConfig(
        sample_rate=file.sr,
        rates=tuple(file.upsample_rates),
        kernels=tuple(file.upsample_kernel_sizes),
        phone=phone,
        inter=file.inter_channels,
        hidden=file.hidden_channels,
        filter=file.filter_channels,
        heads=file.n_heads,
        layers=file.n_layers,
        kernel=file.kernel_size,
        initial=file.upsample_initial_channel,
        resblock_kernels=tuple(file.resblock_kernel_sizes),
        dilations=tuple(file.resblock_dilation_sizes[0]),
        gin=file.gin_channels,
        speakers=speakers,
    )
    return Voice(config, weights, _another_rate(path, content.get(RATE), file.sr))


def _another_rate(path: Path, label: object, rate: int) -> tuple[str, ...]:
    """A line where the `label` of a voice says another rate than its networks make, as that of a merged one
    may: who merges two types it in. The published pipeline goes by the networks, too."""
    if label is None or (isinstance(label, str | int) and label in (f"{rate // 1000}k", str(rate), rate)):
        return ()
    return (f"voice: {RATE} of {path} is {shown(label)}; its networks make {rate:,} Hz, which is what comes",)


def rmvpe_pickle(path: Path) -> Mapping[str, Any]:
    """RMVPE's tensors by name in `rmvpe.pt`, bare or as its authors nest them. Imports torch."""
    content = _pickle(path)
    nested = content.get(NESTED)
    return nested if isinstance(nested, dict) else content


def _pickle(path: Path) -> dict[str, Any]:
    """What the pickle at `path` holds. Imports torch where there is such a file."""
    with opened(path):
        from harness.pickled import load

        return load(path)


def _rmvpe(folder: Path) -> RMVPEConfig:
    """RMVPE's dimensions, which its tensors alone say."""
    shapes: Mapping[str, Shape]
    if is_there(folder, RMVPE):
        shapes = {name: tensor.shape for name, tensor in stored_tensors(folder, RMVPE).items()}
        path = folder / f"{RMVPE}.safetensors"
    else:
        from harness.pickled import PickledWeights

        path = folder / f"{RMVPE}.pt"
        shapes = PickledWeights(str(path), rmvpe_pickle(path)).shapes()

    def count(before: str) -> int:
        """How many numbers follow `before` in names, from 0 on."""
        numbers = {n.removeprefix(before).partition(".")[0] for n in shapes if n.startswith(before)}
        return len(numbers)

    first = _shape(path, shapes, "unet.encoder.layers.0.conv.0.conv.0.weight", 4)
    last = _shape(path, shapes, "cnn.weight", 4)
    _, gru = _matrix(path, shapes, "fc.0.gru.weight_hh_l0")
    levels = count("unet.encoder.layers.")
    if levels > MOST_LEVELS:
        raise CheckpointError(f"{path}: {levels} levels are too many; at most {MOST_LEVELS} are read")
    return RMVPEConfig(
        channels=first[0],
        levels=levels,
        blocks=count("unet.encoder.layers.0.conv."),
        intermediate=count("unet.intermediate.layers."),
        out_channels=last[0],
        gru=gru,
    )


def _hubert(path: Path) -> HubertConfig:
    file = parse_config(read_json(path), HubertFile, str(path))
    return HubertConfig(
        hidden=file.hidden_size,
        intermediate=file.intermediate_size,
        layers=file.num_hidden_layers,
        heads=file.num_attention_heads,
        conv_dim=file.conv_dim[0],
        kernels=tuple(file.conv_kernel),
        strides=tuple(file.conv_stride),
        position_kernel=file.num_conv_pos_embeddings,
        position_groups=file.num_conv_pos_embedding_groups,
        eps=file.layer_norm_eps,
    )


def _matrix(path: Path, shapes: Mapping[str, Shape], name: str) -> tuple[int, int]:
    rows, columns = _shape(path, shapes, name, 2)
    return rows, columns


def _shape(path: Path, shapes: Mapping[str, Shape], name: str, dimensions: int) -> Shape:
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"{path}: {name} is missing; is this another architecture?")
    if len(shape) != dimensions or not all(0 < size <= 65_536 for size in shape):
        raise CheckpointError(f"{path}: {name} is {shape}, expected {dimensions} sizes from 1 to 65536")
    return shape
