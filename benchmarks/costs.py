"""What a generation costs on a card that is not here: no noise, so half a percent is a change.

Predicted for published shapes by tracing the engine of the commit (acestep/costs). The version of torch is
part of each series' version: another one may run other kernels, and starts the series anew.
"""

import math
from importlib.metadata import version

from ._figures import _CardPeak, _Part
from ._matrix import (
    COST_BATCHES,
    COST_DITS,
    COST_DURATIONS_S,
    COST_MODES,
    COST_STAGES,
    DITS,
    QWEN3_TTS,
    RVC,
    RVC_STAGES,
    SPEECH_STAGES,
    TIERS_GB,
    VARIANTS,
    cell,
    predicted_cells,
)
from ._records import predict
from .common import Suite, one_worker, tracks

OUT_OF_MEMORY = 20  # as of a capped process (tiersim.protocol)
TORCH = version("torch").partition("+")[0]


class _Predicted(Suite):
    """Base of the classes that read one run's predictions."""

    @one_worker
    def setup_cache(self):
        return predict({cell.name for cell in predicted_cells()}, TORCH)


class _Cost(_Part, _Predicted):
    """Work of one stage."""

    kind = "cost"

    def setup(self, records, stage, *params):
        super().setup(records, stage, *params)
        self.work = self.record["stages"][stage]

    @tracks("FLOP")
    def track_flop(self, *_):
        return self.work["flop"]

    @tracks("bytes")
    def track_traffic(self, *_):
        """Bytes read and written in the card's memory."""
        return self.work["read_bytes"] + self.work["written_bytes"]

    @tracks("launches")
    def track_launches(self, *_):
        """What the host launches: kernels, and recorded steps."""
        return self.work["launches"]

    @tracks("kernels")
    def track_kernels(self, *_):
        """What the card runs. n/a of a commit that does not tell them from launches."""
        return self.work.get("kernels", math.nan)

    @tracks("syncs")
    def track_syncs(self, *_):
        """How often the host waits for the card."""
        return self.work["syncs"]


class TrackCost(_Cost):
    """Work of one stage of a planned generation, 8 steps. `variant`: of the DiT; base is guided. `mode`: if
    steps are recorded, and regions compiled."""

    version = f"3, torch {TORCH}"
    params = (COST_STAGES, COST_DURATIONS_S, COST_BATCHES, tuple(COST_DITS), COST_MODES)
    param_names = ("stage", "duration_s", "batch", "variant", "mode")

    def cell(self, stage, duration_s, batch, variant, mode):
        return cell("cost", variant=variant, duration_s=duration_s, batch=batch, mode=mode)


class TrackPredictedPeak(_CardPeak, _Predicted):
    """What a card of `tier_gb` would have to hold, allocator's rounding and context included."""

    version = f"2, torch {TORCH}"
    kind = "predicted"
    params = (TIERS_GB, VARIANTS)
    param_names = ("tier_gb", "variant")

    @tracks("exit code")
    def track_status(self, *_):
        """0 fits, 20 does not: a tier that newly fails reads as a loss. n/a where it is not tried."""
        return {"ok": 0, "oom": OUT_OF_MEMORY}.get(self.record["status"], math.nan)


class TrackPredictedPeakXL(TrackPredictedPeak):
    """The same with the XL DiT, by the tier's own settings. n/a where its policy has none."""

    version = f"1, torch {TORCH}"
    params = (TIERS_GB,)
    param_names = ("tier_gb",)

    def cell(self, tier_gb):
        return cell("predicted", tier_gb=tier_gb, variant=VARIANTS[0], dit=DITS[1])


class TrackCostSpeech(_Cost):
    """Work of one stage of three frames of Qwen3-TTS, prompt and prefill included."""

    version = f"1, torch {TORCH}"
    subject = "qwen3_tts"
    params = (SPEECH_STAGES, QWEN3_TTS["model"], COST_MODES[:2])
    param_names = ("stage", "model", "mode")

    @tracks("launches")
    def track_frame_launches(self, _, stage, *__):
        """What the host launches for one more frame, once steps are recorded, if they are. n/a where a stage
        makes none."""
        return self.record["frame_launches"].get(stage, math.nan)


class TrackPredictedPeakSpeech(TrackPredictedPeak):
    """What a card of `tier_gb` would have to hold of Qwen3-TTS with such an utterance."""

    version = f"1, torch {TORCH}"
    subject = "qwen3_tts"
    params = (QWEN3_TTS["tier_gb"], QWEN3_TTS["model"])
    param_names = ("tier_gb", "model")


class TrackCostRVC(_Cost):
    """Work of one stage of RVC's conversion of half a minute."""

    version = f"1, torch {TORCH}"
    subject = "rvc"
    params = (RVC_STAGES[1:-1], RVC["model"])  # those that reach the card
    param_names = ("stage", "model")


class TrackPredictedPeakRVC(TrackPredictedPeak):
    """What a card of `tier_gb` would have to hold of RVC with such a conversion."""

    version = f"1, torch {TORCH}"
    subject = "rvc"
    params = (RVC["tier_gb"], RVC["model"])
    param_names = ("tier_gb", "model")
