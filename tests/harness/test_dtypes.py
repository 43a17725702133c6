"""Which number format suits a device: what it multiplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from harness import device
from harness.device import hold_precision, resolve_dtype
from harness.dtypes import NAMES, chosen, on_tensor_cores
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("place", "capability", "name"),
    [
        ("cuda", (9, 0), "bf16"),
        ("cuda:1", (8, 0), "bf16"),
        ("virtual", (12, 0), "bf16"),
        ("cuda", (7, 5), "fp16"),
        ("cuda", (7, 0), "fp16"),
        ("cuda", (6, 1), "fp16"),
        ("mps", None, "fp16"),
        ("cuda", None, "auto"),
        ("cpu", None, "auto"),
    ],
)
def test_auto_is_what_the_hardware_multiplies(place, capability, name):
    assert chosen("auto", place, capability) == name
    assert [chosen(asked, place, capability) for asked in NAMES] == [*NAMES]


def test_what_is_no_format_is_refused():
    for refuse in (
        lambda: chosen("int8", "cuda", (8, 0)),
        lambda: resolve_dtype("", torch.device("cpu"), ""),
    ):
        with pytest.raises(
            UsageError, match=r"^dtype: '.*' is not allowed; use one of auto, bf16, fp16, fp32$"
        ):
            refuse()


@pytest.mark.parametrize(("capability", "dtype"), [((8, 0), torch.bfloat16), ((7, 5), torch.float16)])
def test_a_card_that_is_there_is_asked(capability, dtype, monkeypatch):
    place = torch.device("privateuseone")  # other tests may have given it another name
    assert resolve_dtype("auto", place, "bfloat16") == torch.bfloat16  # not known
    monkeypatch.setitem(device.capabilities, place.type, lambda place: capability)
    assert resolve_dtype("auto", place, "float32") == dtype
    assert resolve_dtype("fp32", place, "bfloat16") == torch.float32


@pytest.mark.parametrize(("has_bf16", "stored", "dtype"), [
    (True, "bfloat16", torch.bfloat16), (True, "float32", torch.float32), (False, "bfloat16", torch.float32),
])  # fmt: skip
def test_a_cpu_has_the_checkpoints_bf16_where_it_has_any(has_bf16, stored, dtype, monkeypatch):
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: has_bf16)
    assert resolve_dtype("auto", torch.device("cpu"), stored) == dtype


def test_tensor_cores_have_bf16_from_ampere_on_and_never_fp32():
    formats = ("bfloat16", "float16", "float32", "float64", "int8")
    of = {
        capability: [on_tensor_cores(each, capability) for each in formats] for capability in ((7, 5), (8, 0))
    }
    assert of == {(7, 5): [False, True, False, False, True], (8, 0): [True, True, False, False, True]}


@pytest.fixture
def allowances() -> Iterator[Callable[..., list[bool]]]:
    """What reads PyTorch's allowances of TF32 and of sums in fp16, or sets both; they are put back."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def both(value: bool | None = None) -> list[bool]:
        if value is not None:
            cudnn.allow_tf32 = matmul.allow_fp16_reduced_precision_reduction = value
        return [cudnn.allow_tf32, matmul.allow_fp16_reduced_precision_reduction]

    before = both()
    yield both
    cudnn.allow_tf32, matmul.allow_fp16_reduced_precision_reduction = before


def test_on_a_card_fp32_is_no_tf32_and_fp16_is_summed_in_fp32(allowances):
    """PyTorch's defaults allow both; a CPU is left as it is."""
    allowances(True)
    hold_precision(torch.device("cpu"))
    assert allowances() == [True, True]
    hold_precision(torch.device("cuda"))
    assert allowances() == [False, False]
