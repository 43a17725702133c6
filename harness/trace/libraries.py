"""CUDA libraries below PyTorch: the kernels that serve, and the workspaces libraries allocate.

    attention   flash       fp16 or bf16 from capability 8.0, no mask but a window       one kernel
                efficient   any mask, no grouped heads                                   one kernel
                math        everything else: operators in fp32, the scores in memory     a dozen
    RMSNorm     fused       every dtype, of contiguous memory                            one kernel
    GRU         cuDNN's     every dtype                                                  one kernel a layer
    int8        cuBLAS      int8 times int8, in int32                                    one kernel
    int4        tinygemm    bf16 times weights in tiles, from capability 8.0             one kernel
    cuBLAS      one workspace, kept from the first matrix product on
    cuDNN       a workspace per convolution while it runs: one copy of its input

The choice of attention is PyTorch 2.13's. The two workspaces are rules that fit published figures until they
were measured on a card of the capability (`calibration`); until then a prediction says "uncalibrated".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._higher_order_ops.out_dtype import out_dtype, out_dtype_fallback

from harness import dtypes
from harness.trace import kernels
from harness.trace.calibration import Calibration
from harness.trace.stage_costs import Attention, Matmul, Work

if TYPE_CHECKING:
    from harness.trace.fake_card import FakeCard

aten = torch.ops.aten

CONVOLUTIONS = {aten.convolution, aten._convolution}
KIB, MIB = 2**10, 2**20
BLAS_BYTES, BLAS_BYTES_HOPPER = 2 * 4 * MIB + 8 * 16 * KIB, 32 * MIB  # CUBLAS_WORKSPACE_CONFIG's defaults
HOPPER = (9, 0)
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

    def in_fp32(self, dtype: torch.dtype) -> bool:
        """Whether products in `dtype` go at the card's rate of fp32: those of no tensor core."""
        return not dtypes.on_tensor_cores(str(dtype).removeprefix("torch."), self.capability)

    def attention(self, q: Tensor, mask: Tensor | None, grouped: bool) -> str:
        """The kernel that serves queries `q [B, n, S, d]`: "flash", "efficient" or "math"."""
        halves = q.dtype in (torch.float16, torch.bfloat16)
        if mask is None and halves and self.capability >= dtypes.AMPERE and q.shape[-1] <= FLASH_HEAD:
            return "flash"
        bf16_missing = q.dtype == torch.bfloat16 and self.in_fp32(q.dtype)
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
    with card.operators, card.moving(card):
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
        return _fused(card, kernel, q, k, v, mask, ahead=0 if is_causal else None)


def _fused(
    card: FakeCard,
    kernel: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    behind: int | None = None,
    ahead: int | None = None,
) -> Tensor:
    """One kernel, over keys so far `behind` and `ahead` of a query; it makes the heads of a token side by
    side. Flash keeps the sums of the softmax, too."""
    batch, heads, queries, _ = q.shape
    out = card.fresh((batch, queries, heads, v.shape[-1]), q.dtype).transpose(1, 2)
    sums = card.fresh((batch, heads, queries), torch.float32) if kernel == "flash" else None
    flop = kernels.attention_flop(q, k, v, behind, ahead)
    wide = card.libraries is not None and card.libraries.in_fp32(q.dtype)
    _one_kernel(card, Attention, (q, k, v, mask), (out, sums), flop, flop if wide else 0)
    return out


def _one_kernel(
    card: FakeCard,
    kind: type[Work],
    inputs: Iterable[Tensor | None],
    outputs: Iterable[Tensor | None],
    flop: int = 0,
    fp32_flop: int = 0,
) -> None:
    """Charge a kernel that reads `inputs` and writes `outputs`, each once."""
    sides = [[tensor for tensor in side if tensor is not None] for side in (inputs, outputs)]
    read, written = (sum(map(kernels.reach_bytes, side)) for side in sides)
    work = kind(flop=flop, read_bytes=read, written_bytes=written, launches=1, fp32_flop=fp32_flop)
    card.launch(work, *sides)


def attend_near(
    card: FakeCard,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts_q: None,
    starts_k: None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    window_size_left: int,
    window_size_right: int,
) -> tuple[Tensor, ...]:
    """The flash kernel over a batch `[B, S, n, d]` of one length, of keys in a window: result and more."""
    card.operator = "aten::_flash_attention_forward"
    q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
    out = _fused(card, "flash", q, k, v, behind=window_size_left, ahead=window_size_right).transpose(1, 2)
    return out, *(card.fresh(shape, torch.uint64) for shape in ((0,), (2,), (), (0,)))


def rms_norm(
    card: FakeCard, x: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """`rms_norm` as the card would run it: one kernel, which first copies what is not all of its memory and
    keeps each row's factor for as long as it runs. Operators of their own where there are no libraries, and
    in what is compiled, which fuses them itself.
    """
    with card.operators:
        if card.libraries is None or card.region is not None or not card.holds(x):
            return aten._fused_rms_norm.default.decompose(x, shape, weight, eps)[0]
        x = x.contiguous()
        card.operator = "aten::_fused_rms_norm"
        out = card.fresh(x.shape, x.dtype)
        factors = card.fresh(x.shape[: -len(shape)], torch.promote_types(x.dtype, torch.float32))
        _one_kernel(card, Work, (x, weight), (out, factors))
        return out


def gru(
    card: FakeCard,
    x: Tensor,
    hidden: Tensor,
    weights: list[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """cuDNN's GRU: a layer is one kernel, however many steps it has. What they wait for one another is not
    in it, so that a long one takes longer."""
    if card.libraries is None:
        with card.operators:
            return aten.gru.input.decompose(
                x, hidden, weights, has_biases, layers, dropout, train, bidirectional, batch_first
            )
    ways = 2 if bidirectional else 1
    each = len(weights) // layers
    for layer in range(layers):
        own = weights[layer * each : (layer + 1) * each]
        out = card.fresh((*x.shape[:2], ways * hidden.shape[-1]), x.dtype)
        flop = 2 * x.shape[0] * x.shape[1] * sum(weight.numel() for weight in own if weight.dim() == 2)
        wide = card.libraries.in_fp32(x.dtype)
        _one_kernel(card, Matmul, (x, hidden, *own), (out,), flop, flop if wide else 0)
        x = out
    return x, card.fresh(tuple(hidden.shape), x.dtype)


def product_in(card: FakeCard, operator: Any, dtype: torch.dtype, *args: Tensor) -> Tensor:
    """The higher-order `out_dtype`: `operator` of `args`, with sums in `dtype`. Of int8 matrices a card has a
    kernel, which torch takes for tensors that say they are on one.
    """
    with card.operators:
        if operator is aten.mm.default and dtype == torch.int32 and {x.dtype for x in args} == {torch.int8}:
            return aten._int_mm.default(*args)
        return out_dtype_fallback(operator, dtype, *args)


def int4_product(card: FakeCard, x: Tensor, packed: Tensor, group: int, scales: Tensor) -> Tensor:
    """`x [M, K]` times int4 weights, `packed [N / 8, K / 128, 32, 4]` with `scales [K / group, N, 2]`: one
    kernel, which puts them back into bf16 as it reads them. torch's own rule for shapes is not for meta.
    """
    card.operator = "aten::_weight_int4pack_mm"
    outs = 8 * packed.shape[0]
    out = card.fresh((len(x), outs), x.dtype)
    _one_kernel(card, Matmul, (x, packed, scales), (out,), 2 * len(x) * x.shape[1] * outs)
    return out


# Operators that a card serves by other kernels than a CPU does.
SERVED: dict[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: attend,
    aten._flash_attention_forward.default: attend_near,
    aten.rms_norm.default: rms_norm,
    aten.gru.input: gru,
    aten._weight_int4pack_mm.default: int4_product,
    out_dtype: product_in,
}
