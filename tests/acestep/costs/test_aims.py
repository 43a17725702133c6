"""What steps as graphs and compiled networks were to come to at published shapes, by prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from allocations import song

from acestep.lm.choice import AUTO
from acestep.request import GenerationConfig
from acestep.resolver import resolve
from acestep.setup import Setup
from acestep.subject import SUBJECT
from acestep.text.audio_codes import CODES
from acestep.tracing.closed_form import qwen3_bytes
from acestep.weights.layout import LMS
from acestep.weights.sources import component_config
from harness.accelerators import Accelerator
from harness.cards import find
from harness.nn.config import Qwen3Config
from harness.trace.cost import StageCost
from harness.trace.predict import predict

pytestmark = pytest.mark.nightly
FULL, BF16 = "synthetic-full", 2
SECONDS, STEPS = 240, 8
STEPS_OF_CODES = 5 * SECONDS - 1
HEAD_LAUNCHES = 100  # at most, of the first code, which the prompts predict


def stages(card: str, seconds: float, lm: str | None, *, fast: bool = True) -> dict[str, StageCost]:
    of = find(card)
    setup = Setup.choose(
        FULL,
        accelerator=Accelerator("cuda", of.name, of.memory_gib, capability=of.capability),
        lm=lm,
        want_lm=lm is not None,
        quantization="none",
        compile=False,
        offload_to_cpu=False,
        offload_dit_to_cpu=False,
        no_limits=True,
        lm_backend="pt" if lm else AUTO,
    )
    plan = resolve(
        song(seconds, STEPS, lm is not None),
        GenerationConfig(batch_size=1),
        replace(setup, compile=fast, graphs=fast),
    )
    return {stage.stage: stage for stage in predict(SUBJECT, plan, of).running}


def over_weights(decode: StageCost, lm: str) -> float:
    """Times of what reading the weights and the rows of codes takes, for every code."""
    config = component_config(FULL, lm, Qwen3Config)
    read_bytes = qwen3_bytes(config, BF16) + BF16 * config.hidden_size * CODES
    return decode.seconds / (5 * SECONDS * read_bytes / find("h200").bytes_per_s)


@pytest.mark.parametrize(("lm", "most"), [(LMS[2], 1.5), (LMS[1], 1.8)])
def test_decoding_takes_little_more_than_its_weights(lm: str, most: float):
    decode = stages("h200", SECONDS, lm)["lm_decode"]
    assert 1 < over_weights(decode, lm) < most
    assert STEPS_OF_CODES < decode.work.launches < STEPS_OF_CODES + HEAD_LAUNCHES
    layers = component_config(FULL, lm, Qwen3Config).num_hidden_layers
    assert decode.work.kernels < 360 / 28 * layers * STEPS_OF_CODES


def test_launched_kernel_by_kernel_it_takes_a_multiple():
    """The control."""
    decode = stages("h200", SECONDS, LMS[1], fast=False)["lm_decode"]
    assert over_weights(decode, LMS[1]) > 3 and decode.work.launches == decode.work.kernels


def test_decoding_audio_moves_under_90_gb():
    work = {fast: stages("RTX PRO 6000", 86.8, None, fast=fast)["vae_decode"].work for fast in (True, False)}
    moved_gb = {fast: (of.read_bytes + of.written_bytes) / 1e9 for fast, of in work.items()}
    assert moved_gb[True] < 90 < 1.5 * 90 < moved_gb[False]
