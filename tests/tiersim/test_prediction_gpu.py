"""Predicted peaks against a card's own, per stage, for the tiers at full shapes: what a calibration is worth.

python -m scripts.gpu --parts calibration && python -m pytest -m gpu tests/tiersim/test_prediction_gpu.py
"""

import pytest
import torch

from scripts.gpu.parts.peaks import compare, off_by_stage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ABOVE, BELOW = 0.05, 0.01  # of the truth: how far a prediction may be off


@pytest.mark.parametrize("lm", [False, True], ids=["", "lm"])
@pytest.mark.parametrize("tier_gb", [4, 6, 8, 12, 16, 20, 24])
def test_a_tier_peaks_where_it_was_predicted_to(tier_gb, lm):
    real, predicted = compare(tier_gb, lm, "synthetic-full", "cuda")
    if real.status == "skip":
        pytest.skip(str(real.reason))
    assert (real.status, predicted.status) == ("ok", "ok"), real.log
    off = off_by_stage(real, predicted)
    print({stage: f"{by:+.2%}" for stage, by in off.items()})
    assert off and all(-BELOW <= by <= ABOVE for by in off.values()), off
