"""The language model in MLX: mlx-lm's Qwen3 with the weights of any source, on an Apple GPU or on a CPU.

MLX shares its memory with the host, so logits are chosen from where they are. MLX's CPU build is there to
compare tokens with, not speeds: its matrix products are slow.

    pip install '.[mlx]'
    python profile_inference.py --lm-backend mlx
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from acestep.lm.backends.finite import CheckedDecodeLoop
from acestep.lm.decode.selector import Guidance, TokenSelector
from acestep.lm.decode.step import OnCode
from acestep.weights.checkpoint import Source
from harness.errors import MissingPrerequisite
from harness.nn.sampling import Sampling

if TYPE_CHECKING:
    from mlx_lm.models.qwen3 import Model  # pyright: ignore[reportMissingImports]

HOST = torch.device("cpu")


class MLX:
    """The language model `folder` of `source` in `dtype`. On `device` cpu MLX computes on the CPU, on any
    other on its GPU; codes arrive on `device`."""

    name: ClassVar[str] = "mlx"

    def __init__(self, source: Source, folder: str, device: torch.device, dtype: torch.dtype):
        self.source = source
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self._model: Model | None = None

    def load(self) -> None:
        """Bring the weights into memory, and run two tokens for what MLX compiles when it first meets it.

        Raises CheckpointError, or MissingPrerequisite where mlx-lm or the device is missing.
        """
        if self._model is not None:
            return
        try:
            import mlx.core as mx  # pyright: ignore[reportMissingImports]

            from acestep.lm.backends import mlx_cache
        except ImportError as error:
            raise MissingPrerequisite(
                f"lm_backend: mlx is not installed ({error}); pip install '.[mlx]', or use pt"
            ) from None
        place = mx.cpu if self.device.type == "cpu" else mx.gpu
        if not mx.is_available(place):
            raise MissingPrerequisite(f"lm_backend: mlx finds no {self.device.type} here; use cpu, or pt")
        mx.set_default_device(place)
        self._model = mlx_cache.load(self.source, self.folder, self.dtype)
        state = mlx_cache.KVState(self._model, [[0, 0]])
        state.step(torch.zeros(1, dtype=torch.long))
        state.head(slice(1))

    def using(self) -> AbstractContextManager[object]:
        """Nothing to do: the weights stay where MLX has them."""
        return nullcontext()

    def decode_loop(self, sampling: Sampling, seeds: Sequence[int]) -> MLXDecodeLoop:
        return MLXDecodeLoop(self.model, TokenSelector(sampling, seeds, HOST), self.device)

    @property
    def model(self) -> Model:
        if self._model is None:
            raise RuntimeError("mlx: load() comes first")
        return self._model

    def facts(self) -> dict[str, Any]:
        import mlx.core as mx  # pyright: ignore[reportMissingImports]
        from mlx.utils import tree_flatten  # pyright: ignore[reportMissingImports]

        weights = [array for _, array in tree_flatten(self.model.parameters())]
        return {
            "version": f"mlx-lm {version('mlx-lm')}, mlx {mx.__version__}",
            "device": str(mx.default_device()),
            "dtype": ", ".join(sorted({str(array.dtype).removeprefix("mlx.core.") for array in weights})),
            "weight_bytes": sum(array.nbytes for array in weights),
        }

    def close(self) -> None:
        if self._model is not None:
            import mlx.core as mx  # pyright: ignore[reportMissingImports]

            self._model = None
            mx.clear_cache()


class MLXDecodeLoop(CheckedDecodeLoop):
    """A request whose tokens are chosen on the host, where MLX's logits can be read without a copy."""

    def __init__(self, model: Model, selector: TokenSelector, device: torch.device):
        from acestep.lm.backends.mlx_cache import KVState

        super().__init__(selector, lambda prompts, _, known: KVState(model, prompts, known))
        self.device = device

    def codes(
        self,
        prompts: Sequence[list[int]],
        counts: Sequence[int],
        guidance: Guidance | None = None,
        on_code: OnCode | None = None,
    ) -> list[Tensor]:
        return [codes.to(self.device) for codes in super().codes(prompts, counts, guidance, on_code)]

    def finite(self, hidden: Any) -> bool:
        import mlx.core as mx  # pyright: ignore[reportMissingImports]

        return bool(mx.isfinite(hidden).all())
