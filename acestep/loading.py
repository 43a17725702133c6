"""From a source to the models text to music runs, and nothing it does not run.

Left on the meta device: the audio tokenizer's pooler (only covers of real audio need it), the VAE
encoder, and the timbre encoder once it has given its constant, the vector for silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from acestep.checkpoint import Source, check_shapes, materialise, on_meta, parameter_shapes
from acestep.errors import CheckpointError, UsageError
from acestep.lm.planner import Planner
from acestep.models.ace_step import AceStep
from acestep.models.configs import DiTConfig, Qwen3Config, VAEConfig, parse_config
from acestep.models.qwen3 import Qwen3
from acestep.models.vae import Oobleck, OobleckDecoder, fold, published_shapes
from acestep.sources import DIT, LMS, TEXT_ENCODER, VAE
from acestep.tokenizer import Tokenizer


@dataclass
class Models:
    """Everything a generation reads. `timbre [1, D]` and `silence [1, 15000, 64]` are constants."""

    ace_step: AceStep
    vae: OobleckDecoder
    text_encoder: Qwen3
    text_tokenizer: Tokenizer
    planner: Planner | None
    timbre: Tensor
    silence: Tensor
    hop: int
    sample_rate: int
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(
        cls,
        source: Source,
        device: torch.device,
        choose_dtype: Callable[[str], torch.dtype],
        lm: str | None,
    ) -> Models:
        """Load from `source`; `choose_dtype` is told the dtype the DiT's file declares.

        Raises UsageError for an unknown `lm`, CheckpointError for a folder that is wrong.
        """
        if lm is not None and lm not in LMS:
            raise UsageError(f"lm: {lm!r} is not allowed; use one of {', '.join(LMS)}, or none")
        stored = source.config(DIT)
        dtype = choose_dtype(str(stored.get("torch_dtype") or stored.get("dtype") or "bfloat16"))
        silence = source.silence_latent().to(device, dtype)
        ace_step, timbre = _load_ace_step(source, silence, device, dtype, codes=lm is not None)
        vae, vae_config = _load_vae(source, device, dtype)
        return cls(
            ace_step=ace_step,
            vae=vae,
            text_encoder=_load_qwen3(source, TEXT_ENCODER, device, dtype),
            text_tokenizer=source.tokenizer(TEXT_ENCODER),
            planner=Planner(_load_qwen3(source, lm, device, dtype), source.tokenizer(lm)) if lm else None,
            timbre=timbre,
            silence=silence,
            hop=vae_config.hop,
            sample_rate=vae_config.sampling_rate,
            device=device,
            dtype=dtype,
        )


def _load_ace_step(
    source: Source, silence: Tensor, device: torch.device, dtype: torch.dtype, codes: bool
) -> tuple[AceStep, Tensor]:
    config = parse_config(source.config(DIT), DiTConfig, f"{source.name}/{DIT}/config.json")
    if not config.is_turbo:
        raise CheckpointError(f"{source.name}/{DIT}: is_turbo is false; only the turbo variant runs so far")
    model: AceStep = on_meta(lambda: AceStep(config))
    weights = source.weights(DIT)
    check_shapes(parameter_shapes(model), weights)
    parts = {"decoder.": model.decoder, "encoder.": model.encoder}
    if codes:
        parts |= {"tokenizer.quantizer.": model.tokenizer.quantizer, "detokenizer.": model.detokenizer}
    for prefix, part in parts.items():
        materialise(part, weights.read, prefix=prefix, device=device, dtype=dtype)
    with torch.inference_mode():
        timbre = model.encoder.timbre_encoder(silence[:, : config.timbre_fix_frame]).clone()
    model.encoder.timbre_encoder.to("meta")
    return model, timbre


def _load_vae(source: Source, device: torch.device, dtype: torch.dtype) -> tuple[OobleckDecoder, VAEConfig]:
    config = parse_config(source.config(VAE), VAEConfig, f"{source.name}/{VAE}/config.json")
    model: Oobleck = on_meta(lambda: Oobleck(config))
    weights = source.weights(VAE)
    check_shapes(published_shapes(model), weights)
    materialise(
        model.decoder,
        lambda name: fold(name, weights.read),
        prefix="decoder.",
        device=device,
        dtype=dtype,
    )
    return model.decoder, config


def _load_qwen3(source: Source, folder: str, device: torch.device, dtype: torch.dtype) -> Qwen3:
    config = parse_config(source.config(folder), Qwen3Config, f"{source.name}/{folder}/config.json")
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    weights = source.weights(folder)
    check_shapes(parameter_shapes(model), weights)
    materialise(model, weights.read, device=device, dtype=dtype)
    return model
