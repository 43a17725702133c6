"""From a source to models in memory, part by part: what no request needs is never materialised.

Parts are the components of `acestep.components`. All of a checkpoint is held against the models' names and
shapes before a byte of it is read, needed or not. The timbre of silence, which stands in where there is no
reference audio, is computed with `condition`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from acestep import components
from acestep.models.ace_step import AceStep
from acestep.models.configs import DiTConfig, VAEConfig
from acestep.models.vae import Oobleck, fold, published_shapes
from acestep.text.tokenizer import Tokenizer
from acestep.weights.checkpoint import Source
from acestep.weights.contents import ComponentConfig, check_together
from acestep.weights.layout import LMS, TEXT_ENCODER, VAE
from harness.checkpoint import assign, check_shapes, materialise, on_meta, parameter_shapes
from harness.errors import UsageError
from harness.nn.config import Config, Qwen3Config, parse_config
from harness.nn.packed import unpack
from harness.nn.qwen3 import Qwen3
from harness.quantization import place, quantize
from harness.residency import move
from harness.spans import span
from harness.tensor_files import Shape


class Residency(Protocol):
    """Who decides where parts live."""

    def device_of(self, part: str) -> torch.device:
        """Where `part` computes."""
        ...

    def home(self, part: str) -> torch.device:
        """Where to materialise `part`."""
        ...

    def adopt(self, part: str, *modules: nn.Module) -> None:
        """Take charge of a part that has been materialised at its home."""
        ...

    def using(self, *parts: str) -> AbstractContextManager[object]:
        """Inside, `parts` are where they compute."""
        ...

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights on the device now."""
        ...

    def used_on(self) -> dict[str, torch.device]:
        """The device that the weights of each part were on when they were last used."""
        ...


@dataclass(frozen=True)
class Part:
    """Modules that are loaded and moved as one: `names` of `model` ("" is the model itself).

    `quantization`: of the linears in the modules' `layers`, each layer's before the next is read; they
    compute on `device`.
    """

    model: nn.Module
    names: tuple[str, ...]
    read: Callable[[str], Tensor]
    quantization: str | None = None
    device: torch.device | None = None

    @property
    def modules(self) -> list[nn.Module]:
        return [self.model.get_submodule(name) for name in self.names]

    def materialise(self, device: torch.device, dtype: torch.dtype) -> None:
        for name, module in zip(self.names, self.modules, strict=True):
            prefix = f"{name}." if name else ""
            if self.quantization:
                for index, layer in enumerate(cast(nn.ModuleList, module.layers)):
                    at = f"{prefix}layers.{index}."
                    made_on = place(self.quantization, device, self.device or device)
                    materialise(layer, self.read, prefix=at, device=made_on, dtype=dtype)
                    quantize(layer, self.quantization)
                    move(layer, device)
            materialise(module, self.read, prefix=prefix, device=device, dtype=dtype)

    def drop(self) -> None:
        """Back to the meta device: the memory is free, the part can be materialised again."""
        for module in self.modules:
            unpack(module)
            for name, tensor in list(module.named_parameters()):
                assign(module, name, torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"))


# Submodules of the file that holds the DiT, and of the VAE, under the names of their weights.
OF_DIT = {
    components.DIT: ("decoder",),
    components.CONDITION: ("encoder.text_projector", "encoder.lyric_encoder"),
    components.TIMBRE: ("encoder.timbre_encoder",),
    components.TOKENIZER: ("tokenizer.audio_acoustic_proj", "tokenizer.attention_pooler"),
    components.DETOKENIZER: ("tokenizer.quantizer", "detokenizer"),
}
OF_VAE = {components.VAE: ("decoder",), components.VAE_ENCODER: ("encoder",)}


@dataclass
class Models:
    """Everything a generation reads. Parts that are not loaded lie on the meta device (see `need`).

    `device`: where the models compute, but for parts with a device of their own (`place`).
    `silence [1, 15000, 64]` is a constant of the checkpoint, in `dtype` where `condition` is. `hop`: samples
    per latent frame.
    """

    config: DiTConfig
    dit: str
    ace_step: AceStep
    vae: Oobleck
    text_encoder: Qwen3
    text_tokenizer: Tokenizer
    lm: Qwen3 | None
    silence: Tensor
    hop: int
    sample_rate: int
    device: torch.device
    dtype: torch.dtype
    residency: Residency
    parts: dict[str, Part] = field(repr=False)
    loaded: set[str] = field(default_factory=set)
    met: set[Hashable] = field(default_factory=set, repr=False)  # what has run once, before it is recorded
    _timbre_of_silence: Tensor | None = field(default=None, repr=False)  # before `condition` is loaded

    @classmethod
    def open(
        cls,
        source: Source,
        dit: str,
        device: torch.device,
        choose_dtype: Callable[[str], torch.dtype],
        lm: str | None,
        residency: Residency,
        quantization: str | None = None,
        lm_quantization: str | None = None,
    ) -> Models:
        """The models of `source`, with the DiT of its folder `dit` and our own language model `lm`, or none.

        No part is loaded yet. `quantization`, `lm_quantization`: of the layers of the DiT and of the language
        model, or None (`harness.quantization` says which there are).

        `choose_dtype` is told the dtype the DiT's file declares; tensors are cast to its answer as they
        are read. Raises UsageError for an unknown `lm`, CheckpointError for a folder that is wrong.
        """
        if lm is not None and lm not in LMS:
            raise UsageError(f"lm: {lm!r} is not allowed; use one of {', '.join(LMS)}, or none")
        config, ace_step, read = _empty(source, dit, DiTConfig, AceStep)
        vae_config, vae, read_vae = _empty(source, VAE, VAEConfig, Oobleck, published_shapes)
        text_config, text_encoder, read_text = _empty(source, TEXT_ENCODER, Qwen3Config, Qwen3)
        configs: dict[str, ComponentConfig] = {dit: config, VAE: vae_config, TEXT_ENCODER: text_config}
        parts = {part: Part(ace_step, names, read) for part, names in OF_DIT.items()}
        parts[components.DIT] = replace(parts[components.DIT], quantization=quantization)
        parts |= {part: Part(vae, names, partial(fold, read=read_vae)) for part, names in OF_VAE.items()}
        parts[components.TEXT_ENCODER] = Part(text_encoder, ("",), read_text)
        language_model = None
        if lm:
            configs[lm], language_model, read_lm = _empty(source, lm, Qwen3Config, Qwen3)
            on = residency.device_of(components.LM)
            parts[components.LM] = Part(language_model, ("",), read_lm, lm_quantization, on)
        check_together(source.name, configs)
        dtype = choose_dtype(config.stored_dtype)
        null = read("null_condition_emb").to(residency.device_of(components.DIT), dtype)
        assign(ace_step, "null_condition_emb", null)
        silence = source.silence_latent(dit).to(residency.device_of(components.CONDITION), dtype)
        return cls(
            config=config,
            dit=dit,
            ace_step=ace_step,
            vae=vae,
            text_encoder=text_encoder,
            text_tokenizer=source.tokenizer(TEXT_ENCODER),
            lm=language_model,
            silence=silence,
            hop=vae_config.hop,
            sample_rate=vae_config.sampling_rate,
            device=device,
            dtype=dtype,
            residency=residency,
            parts=parts,
        )

    @property
    def weights_bytes(self) -> int:
        """Of those that are on the device now."""
        return self.residency.resident_bytes

    def place(self, part: str) -> torch.device:
        """Where a part computes, and what it takes and makes is."""
        return self.residency.device_of(part)

    def need(self, *parts: str) -> None:
        """Load those of `parts` that are not loaded, each to its home.

        Raises CheckpointError when a tensor cannot be read, KeyError for a part there is none of ("lm"
        without one, say).
        """
        for name in parts:
            if name not in self.loaded:
                with span(f"load/{name}"):
                    self._load(name)

    @property
    def timbre_of_silence(self) -> Tensor:
        """The vector `[1, 1, D]` that stands for no reference audio; a constant of the checkpoint."""
        if self._timbre_of_silence is None:
            raise RuntimeError(f"models: need({components.CONDITION!r}) comes first")
        return self._timbre_of_silence

    def _load(self, name: str) -> None:
        part = self.parts[name]
        if name == components.CONDITION:
            clip = self.silence[:, : self.config.timbre_fix_frame]
            self._timbre_of_silence = _timbre(self.parts[components.TIMBRE], clip)
        part.materialise(self.residency.home(name), self.dtype)
        self.residency.adopt(name, *part.modules)
        self.loaded.add(name)


def _empty(
    source: Source,
    folder: str,
    kind: type[Config],
    build: Callable[[Config], nn.Module],
    shapes: Callable[[nn.Module], dict[str, Shape]] = parameter_shapes,
) -> tuple[Config, Any, Callable[[str], Tensor]]:
    """A folder's configuration, its model on the meta device, and what reads the tensors that fit it."""
    config = parse_config(source.config(folder), kind, f"{source.name}/{folder}/config.json")
    model = on_meta(lambda: build(config))
    weights = source.weights(folder)
    check_shapes(shapes(model), weights)
    return config, model, weights.read


def _timbre(encoder: Part, silence: Tensor) -> Tensor:
    """The vector of `silence [1, 750, 64]` as one clip `[1, 1, D]`. The encoder is dropped again."""
    encoder.materialise(silence.device, silence.dtype)
    (timbre_encoder,) = encoder.modules
    with torch.inference_mode():
        timbre = timbre_encoder(silence).clone()
    encoder.drop()
    return timbre[None]
