"""Number formats of models: their names, and what a device multiplies. No torch import here.

    name   mantissa, bits   largest   a product's sum
    bf16   7                3.4e38    in fp32
    fp16   10               65,504    in fp32; what is stored may still be beyond the largest
    fp32   23               3.4e38    in fp32

Tensor cores multiply bf16 from Ampere on, and fp16 from Volta on. Before Ampere bf16 is computed in fp32,
so there fp16 is the faster format of two bytes, with islands of fp32 where a model's values leave its range
(`harness.nn.islands`).
"""

from __future__ import annotations

from harness.checks import one_of

AUTO = "auto"
BF16, FP16, FP32 = NAMES = ("bf16", "fp16", "fp32")
# The first capability that multiplies bf16; CUDA C++ Programming Guide, "Compute Capabilities".
AMPERE = (8, 0)


def chosen(name: str, device: str, capability: tuple[int, int] | None) -> str:
    """The format `name`, or of "auto" what suits `device` (cpu, mps, cuda or cuda:N, or what stands for one).

    `capability`: of a CUDA card, None where it is not known. "auto" remains where torch has to be asked: on a
    CPU (`harness.device.resolve_dtype`). Raises UsageError for another name.
    """
    one_of("dtype", name, (AUTO, *NAMES))
    if name != AUTO:
        return name
    if device == "mps":
        return FP16
    if capability is None:
        return AUTO
    return BF16 if capability >= AMPERE else FP16


def on_tensor_cores(dtype: str, capability: tuple[int, int]) -> bool:
    """Whether products in `dtype` (torch's name) are those of a card's tensor cores, not of its fp32 units.

    TF32 is not used (`harness.device.hold_precision`). A card may have no tensor cores at all, which its
    capability does not tell (GTX 16): its rates are the same.
    """
    if dtype == "bfloat16":
        return capability >= AMPERE
    return dtype not in ("float32", "float64")
