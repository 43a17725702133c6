"""What a model is, by its files or of a made-up one, held to the range of each field and to itself.

A source is `synthetic-tiny`, `synthetic-full`, or a folder of `subjects.rvc.layout`; a voice is one of a
folder's, or a file by itself. No torch is imported, but for a pickle: nothing else reads one safely.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.checkpoint_files import opened, read_json
from harness.checks import listed, shown
from harness.errors import CheckpointError, UsageError
from harness.nn.config import parse_config
from harness.tensor_files import Shape, is_there, stored_tensors
from subjects.rvc.config import RATES, Configs, HubertConfig, RMVPEConfig, SynthesizerConfig
from subjects.rvc.config_files import HubertFile, RMVPESizes, VoiceFile
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
    folder, place = Path(source), Path(voice) if voice else None
    if source in SYNTHETIC:
        rate = model or DEFAULT_RATE
        if rate not in RATES:
            raise UsageError(f"model: {rate!r} is not allowed; use one of {', '.join(RATES)}")
        configs = synthetic(source, rate)
        if place is None:
            return configs
        rmvpe, hubert = configs.rmvpe, configs.hubert
    else:
        place = place or voice_path(source, model)
        hubert, rmvpe = _hubert(folder / HUBERT / "config.json"), _rmvpe(folder)
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

    version, f0 = content.get(VERSION, "v1"), content.get(F0, 1)
    if version != SUPPORTED:
        raise CheckpointError(f"{path}: version: {shown(version)} is not supported; use {SUPPORTED}")
    if not isinstance(f0, int) or f0 != 1:
        raise CheckpointError(f"{path}: f0: {shown(f0)} is not supported; use 1, a voice with pitch")
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
    return Voice(file.config(phone, speakers), weights, _another_rate(path, content.get(RATE), file.sr))


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
        path = folder / f"{RMVPE}.pt"
        content = rmvpe_pickle(path)
        from harness.pickled import PickledWeights

        shapes = PickledWeights(str(path), content).shapes()

    def count(before: str) -> int:
        """How many numbers follow `before` in names, from 0 on."""
        numbers = {n.removeprefix(before).partition(".")[0] for n in shapes if n.startswith(before)}
        return len(numbers)

    first = _shape(path, shapes, "unet.encoder.layers.0.conv.0.conv.0.weight", 4)
    last = _shape(path, shapes, "cnn.weight", 4)
    _, gru = _matrix(path, shapes, "fc.0.gru.weight_hh_l0")
    sizes = {
        "channels": first[0],
        "levels": count("unet.encoder.layers."),
        "blocks": count("unet.encoder.layers.0.conv."),
        "intermediate": count("unet.intermediate.layers."),
        "out_channels": last[0],
        "gru": gru,
    }
    return parse_config(sizes, RMVPESizes, str(path)).config()


def _hubert(path: Path) -> HubertConfig:
    return parse_config(read_json(path), HubertFile, str(path)).config()


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
