"""Independent implementations of the networks, from diffusers and transformers, with the weights of ours.

Both come with the extra `oracle` and are imported where they are used. Computed in fp64, whatever an oracle
fixes to float32 (norms, angles) is lifted to float64: the comparison is about formulas alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from acestep.models.condition import ConditionEncoder
from acestep.models.configs import DiTConfig, VAEConfig
from harness.errors import MissingPrerequisite
from harness.nn.config import Qwen3Config
from harness.nn.qwen3 import Qwen3
from harness.parity import precision

# Published name -> diffusers name, wherever the two differ.
DIFFUSERS_NAMES = {
    "proj_in.1.": "proj_in_conv.",
    "proj_out.1.": "proj_out_conv.",
    ".q_proj.": ".to_q.",
    ".k_proj.": ".to_k.",
    ".v_proj.": ".to_v.",
    ".o_proj.": ".to_out.0.",
    ".q_norm.": ".norm_q.",
    ".k_norm.": ".norm_k.",
}


def to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under diffusers' names."""
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in DIFFUSERS_NAMES.items():
            # A leading dot lets ".q_norm." match at the start of a name, too.
            name = f".{name}".replace(ours, theirs)[1:]
        renamed[name] = tensor
    return renamed


def load(theirs: nn.Module, state: dict[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Give an oracle our weights; strict, so a name we got wrong is an error here."""
    theirs.double().load_state_dict(state)
    return theirs.to(dtype).requires_grad_(False).eval()


def library(name: str) -> ModuleType:
    """A module of an oracle's library. Raises MissingPrerequisite where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        message = f'oracle: {package} is not installed; pip install -e ".[oracle]"'
        raise MissingPrerequisite(message) from None


def diffusers_dit(config: DiTConfig, dit: nn.Module, dtype: torch.dtype, *, share: bool = False) -> nn.Module:
    """diffusers' DiT with the weights of `dit`: a copy of them, or, to `share`, the very tensors."""
    module = library("diffusers.models.transformers.ace_step_transformer")
    with precision(dtype), torch.device("meta") if share else nullcontext():
        theirs = module.AceStepTransformer1DModel(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            in_channels=config.in_channels,
            audio_acoustic_hidden_dim=config.audio_acoustic_hidden_dim,
            sliding_window=config.sliding_window,
            encoder_hidden_size=config.encoder.hidden_size,
        )
    state = to_diffusers(dit.state_dict())
    if share:
        theirs.load_state_dict(state, assign=True)
        return theirs.requires_grad_(False).eval()
    return load(theirs, state, dtype)


def velocity(
    config: DiTConfig, time: float, dit: nn.Module, x: Tensor, context: Tensor, encoded: Tensor
) -> Tensor:
    """diffusers' DiT at one time: `[B, T, 64]`."""
    theirs = diffusers_dit(config, dit, x.dtype)
    with precision(x.dtype):
        times = torch.full((len(x),), time, dtype=x.dtype)
        return theirs(x, times, times, encoded, context, return_dict=False)[0]


def diffusers_condition_encoder(
    config: DiTConfig, encoder: ConditionEncoder, dtype: torch.dtype
) -> nn.Module:
    """diffusers' condition encoder with the weights of `encoder`."""
    module = library("diffusers.pipelines.ace_step.modeling_ace_step")
    block = config.encoder
    with precision(dtype):
        theirs = module.AceStepConditionEncoder(
            hidden_size=block.hidden_size,
            intermediate_size=block.intermediate_size,
            text_hidden_dim=config.text_hidden_dim,
            timbre_hidden_dim=config.audio_acoustic_hidden_dim,
            num_lyric_encoder_hidden_layers=config.num_lyric_encoder_hidden_layers,
            num_timbre_encoder_hidden_layers=config.num_timbre_encoder_hidden_layers,
            num_attention_heads=block.num_attention_heads,
            num_key_value_heads=block.num_key_value_heads,
            head_dim=block.head_dim,
            sliding_window=config.sliding_window,
        )
    # Two tensors live elsewhere in our layout: the checkpoint's root and silence_latent.pt.
    elsewhere = {name: theirs.state_dict()[name] for name in ("null_condition_emb", "silence_latent")}
    return load(theirs, to_diffusers(encoder.state_dict()) | elsewhere, dtype)


def condition(
    config: DiTConfig, encoder: ConditionEncoder, text: Tensor, lyrics: Tensor, clip: Tensor
) -> Tensor:
    """diffusers' condition encoder of one prompt and one clip: `[1, N, D]`."""
    theirs = diffusers_condition_encoder(config, encoder, text.dtype)
    with precision(text.dtype):
        masks = [torch.ones(part.shape[:2], dtype=torch.long) for part in (text, lyrics)]
        return theirs(text, masks[0], lyrics, masks[1], clip, torch.zeros(1, dtype=torch.long))[0]


def hidden_states(config: Qwen3Config, model: Qwen3, ids: Tensor) -> Tensor:
    """transformers' Qwen3: `[B, S, H]`."""
    module = library("transformers.models.qwen3.modeling_qwen3")
    dtype = model.embed_tokens.weight.dtype
    with precision(dtype):
        theirs = module.Qwen3Model(
            module.Qwen3Config(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                num_key_value_heads=config.num_key_value_heads,
                head_dim=config.head_dim,
                rms_norm_eps=config.rms_norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=True,
            )
        )
        return load(theirs, model.state_dict(), dtype)(input_ids=ids).last_hidden_state


def autoencoder(config: VAEConfig, half: str, network: nn.Module, x: Tensor) -> Tensor:
    """What diffusers' `encoder` or `decoder` of the VAE makes of `x`, as `half` names it."""
    return diffusers_vae(config, half, network, x.dtype)(x)


def diffusers_vae(config: VAEConfig, half: str, network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """diffusers' `encoder` or `decoder` of the VAE with the weights of `network`, on its device."""
    module = library("diffusers.models.autoencoders.autoencoder_oobleck")
    theirs = module.AutoencoderOobleck(
        encoder_hidden_size=config.encoder_channels or config.encoder_hidden_size,
        downsampling_ratios=config.downsampling_ratios,
        channel_multiples=config.channel_multiples,
        decoder_channels=config.decoder_channels,
        decoder_input_channels=config.decoder_input_channels,
        audio_channels=config.audio_channels,
        sampling_rate=config.sampling_rate,
    )
    if config.encoder_channels:  # only in tiny weights: diffusers has one number for both ends
        last = theirs.encoder.conv2
        narrow = nn.Conv1d(last.in_channels, config.encoder_hidden_size, 3, padding=1)
        theirs.encoder.conv2 = nn.utils.weight_norm(narrow)
    state = dict(pair for name, value in network.state_dict().items() for pair in _unfolded(name, value))
    device = next(network.parameters()).device
    return load(getattr(theirs, half).to(device), state, dtype)


def _unfolded(name: str, folded: Tensor) -> list[tuple[str, Tensor]]:
    """What `acestep.models.vae.fold` makes a parameter of, in fp64."""
    owner, _, leaf = name.rpartition(".")
    value = folded.double()
    if leaf == "weight":
        norm = value.flatten(1).norm(dim=1).view(-1, 1, 1)
        return [(f"{owner}.weight_v", value), (f"{owner}.weight_g", norm)]
    if leaf == "frequency":
        return [(f"{owner}.alpha", value.log())]
    if leaf == "gain":
        return [(f"{owner}.beta", (1 / value - 1e-9).log())]
    return [(name, value)]
