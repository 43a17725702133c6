"""CUDA libraries below PyTorch: the attention kernel that serves, and the workspaces libraries allocate.

    attention   flash       fp16 or bf16 from capability 8.0, no mask                    one kernel
                efficient   any mask, no grouped heads                                   one kernel
                math        everything else: operators in fp32, the scores in memory     a dozen
    cuBLAS      one workspace, kept from the first matrix product on
    cuDNN       a workspace per convolution while it runs: one copy of its input

The choice of attention is PyTorch 2.13's. The two workspaces are rules that fit published figures until they
were measured on a card of the capability (`calibration`); until then a prediction says "uncalibrated".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.trace import kernels
from harness.trace.calibration import Calibration
from harness.trace.stage_costs import Attention

if TYPE_CHECKING:
    from harness.trace.fake_card import FakeCard

aten = torch.ops.aten

CONVOLUTIONS = {aten.convolution, aten._convolution}
KIB, MIB = 2**10, 2**20
BLAS_BYTES, BLAS_BYTES_HOPPER = 2 * 4 * MIB + 8 * 16 * KIB, 32 * MIB  # CUBLAS_WORKSPACE_CONFIG's defaults
HOPPER, AMPERE = (9, 0), (8, 0)
FLASH_HEAD = 256  # largest head size
BIAS_STEP = 16  # the efficient kernel wants rows of its bias in multiples of so many


@dataclass(frozen=True)
class CUDA:
    """cuBLAS, cuDNN and PyTorch's attention, of a card of compute capability `capability`."""

    capability: tuple[int, int]
    measured: Calibration | None = None

    @property
    def blas_bytes(self) -> int:
        """The workspace that the first matrix product leaves allocated."""
        if self.measured:
            return self.measured.blas_bytes
        return BLAS_BYTES_HOPPER if self.capability[0] == HOPPER[0] else BLAS_BYTES

    def workspace_bytes(self, func: Any, args: tuple[Any, ...]) -> int:
        """The workspace of an operator while it runs, beside its results."""
        if func._overloadpacket not in CONVOLUTIONS:
            return 0
        copies = self.measured.convolution_copies if self.measured else 1
        return int(copies * args[0].nbytes)

    def attention(self, q: Tensor, mask: Tensor | None, grouped: bool) -> str:
        """The kernel that serves queries `q [B, n, S, d]`: "flash", "efficient" or "math"."""
        halves = q.dtype in (torch.float16, torch.bfloat16)
        if mask is None and halves and self.capability >= AMPERE and q.shape[-1] <= FLASH_HEAD:
            return "flash"
        bf16_missing = q.dtype == torch.bfloat16 and self.capability < AMPERE
        return "math" if grouped or bf16_missing or q.dtype == torch.float64 else "efficient"


def attend(
    card: FakeCard,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` as the card would run it: `[B, n, S, d]`."""
    with card.operators, card.moving(to_card=True):
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.where(
                mask, *(mask.new_full((), value, dtype=q.dtype) for value in (0.0, -torch.inf))
            )
        if card.libraries is None:
            on_cpu = aten._scaled_dot_product_flash_attention_for_cpu
            return on_cpu(q, k, v, dropout, is_causal, attn_mask=mask, scale=scale)[0]
        kernel = card.libraries.attention(q, mask, enable_gqa and q.shape[1] != k.shape[1])
        if kernel == "math":
            plain = aten._scaled_dot_product_attention_math.default.decompose
            return plain(q, k, v, mask, dropout, is_causal, scale=scale, enable_gqa=enable_gqa)[0]
        if mask is not None and mask.shape[-1] % BIAS_STEP:
            mask = torch.nn.functional.pad(mask, (0, -mask.shape[-1] % BIAS_STEP))
        return _fused(card, kernel, q, k, v, mask)


def _fused(card: FakeCard, kernel: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One kernel; it makes the heads of a token side by side. Flash keeps the sums of the softmax, too."""
    batch, heads, queries, _ = q.shape
    out = card.fresh((batch, queries, heads, v.shape[-1]), q.dtype).transpose(1, 2)
    sums = card.fresh((batch, heads, queries), torch.float32) if kernel == "flash" else None
    inputs = [tensor for tensor in (q, k, v, mask) if tensor is not None]
    outputs = [tensor for tensor in (out, sums) if tensor is not None]
    work = Attention(
        flop=kernels.attention_flop(q, k, v),
        read_bytes=sum(map(kernels.reach_bytes, inputs)),
        written_bytes=sum(map(kernels.reach_bytes, outputs)),
        launches=1,
    )
    card.launch(work, inputs, outputs)
    return out
