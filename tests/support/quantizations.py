"""Which quantizations can run here, as marks of tests."""

from importlib.util import find_spec

import pytest

from harness import quantization
from harness.quantization import QUANTIZATIONS, W8A8

torchao = pytest.mark.skipif(
    find_spec("torchao") is None, reason="torchao is not installed; pip install '.[quantization]'"
)
exact_int8 = pytest.mark.skipif(
    quantization._without_exact_int8() is not None, reason="this processor overflows int8 sums"
)
RUNS_HERE = [pytest.param(name, marks=exact_int8 if name == W8A8 else ()) for name in QUANTIZATIONS]
