"""Predicted peaks against a card's own, per stage, for the tiers at full shapes: what a calibration is worth.

python -m scripts.calibrate && python -m pytest -m gpu tests/tiersim/test_prediction_gpu.py
"""

import pytest
import torch

from harness.cards import Card
from harness.trace import calibration
from tiersim import Case, run_case
from tiersim.prediction import predict_case

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ABOVE, BELOW = 0.05, 0.01  # of the truth: how far a prediction may be off
LOADING = "load"  # in parts, whose order the two name differently


def this_card() -> Card:
    """The card that is here, by its own account; its speed does not matter to memory."""
    found = torch.cuda.get_device_properties(0)
    measured = calibration.find((found.major, found.minor))
    return Card(
        name=found.name,
        capability=(found.major, found.minor),
        memory_gib=found.total_memory / 2**30,
        tflop_per_s=100,
        gb_per_s=1000,
        launch_us=5,
        link_gb_per_s=25,
        context_mib=measured.context_mib if measured else 512,
        source="this machine",
    )


@pytest.mark.parametrize("lm", [False, True], ids=["", "lm"])
@pytest.mark.parametrize("tier_gb", [4, 6, 8, 12, 16, 20, 24])
def test_a_tier_peaks_where_it_was_predicted_to(tier_gb, lm):
    asked = {"tier_gb": tier_gb, "lm": lm, "source": "synthetic-full", "skip_compile": True}
    real = run_case(Case(**asked, device="cuda"))
    predicted = predict_case(Case(**asked, card=this_card()))
    if real.status == "skip":
        pytest.skip(str(real.reason))
    assert (real.status, predicted.status) == ("ok", "ok"), real.log
    stages = {stage: peak for stage, peak in predicted.stage_peaks_bytes.items() if stage != LOADING}
    off = {
        stage: stages[stage] / real.stage_peaks_bytes[stage] - 1
        for stage in stages.keys() & real.stage_peaks_bytes.keys()
    }
    print({stage: f"{by:+.2%}" for stage, by in sorted(off.items())})
    assert off and all(-BELOW <= by <= ABOVE for by in off.values()), off
