"""The tiny VAE decoder in fp64, in which tiles and one pass differ by rounding alone; and a smaller one."""

import torch
from torch import Tensor

from acestep.models.configs import VAEConfig
from acestep.models.vae import Oobleck, OobleckDecoder, fold
from acestep.weights.layout import VAE
from acestep.weights.synthetic import Synthetic
from harness.checkpoint import materialise, on_meta
from harness.nn.config import parse_config

HOP = 1920
SMALL_HOP = 32


def tiny_decoder(dtype: torch.dtype = torch.float64) -> OobleckDecoder:
    source = Synthetic("synthetic-tiny")
    config = parse_config(source.config(VAE), VAEConfig, "tiny")
    decoder = on_meta(lambda: Oobleck(config)).decoder
    read = source.weights(VAE).read
    cpu = torch.device("cpu")
    materialise(decoder, lambda n: fold(n, read), prefix="decoder.", device=cpu, dtype=dtype)
    return decoder


def small_decoder() -> OobleckDecoder:
    """A decoder of `SMALL_HOP` samples a frame and random weights, for as many songs as a property wants."""
    config = VAEConfig(
        encoder_hidden_size=128,
        decoder_channels=2,
        decoder_input_channels=64,
        channel_multiples=[1, 2],
        downsampling_ratios=[4, 8],
        audio_channels=2,
        sampling_rate=48_000,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return OobleckDecoder(config).double()


def random_latents(batch: int, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(batch, frames, 64, dtype=torch.float64, generator=generator)


def one_pass(decoder: OobleckDecoder, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return decoder(latents.transpose(1, 2)).float()


def relative_error(ours: Tensor, whole: Tensor) -> float:
    return ((ours - whole).square().mean() / whole.square().mean()).sqrt().item()


class Refusal:
    """A card on which the decoder runs out of memory for all but the windows that `fits` accepts."""

    def __init__(self, decoder: OobleckDecoder, fits):
        self.windows: list[tuple[int, torch.dtype]] = []
        self.fits = fits
        self._hook = decoder.register_forward_pre_hook(self._before)

    def _before(self, decoder: OobleckDecoder, arguments: tuple[Tensor]) -> None:
        (window,) = arguments
        self.windows.append((window.shape[-1], window.dtype))
        if not self.fits(window, len(self.windows)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def __enter__(self):
        return self

    def __exit__(self, *exc: object) -> None:
        self._hook.remove()
