"""Closed forms are what PyTorch counts, and at the published widths the published figures."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from subjects.qwen3_tts import checkpoint, closed_form
from subjects.qwen3_tts.layout import FULL, TINY
from subjects.qwen3_tts.networks import components

HERE = torch.device("cpu"), torch.float32
SIZES = {
    "talker": (1, 40),
    "code_predictor": (1, 3),
    "decoder": (5, 72, 73),  # of which the window holds 72
    "speaker_encoder": (9, 100),
}


@pytest.mark.parametrize("name", SIZES)
def test_work_on_paper_is_work_counted(name):
    component = components(TINY)[name]
    network = component.build(*HERE)
    for size in SIZES[name]:
        inputs = component.inputs(size, torch.Generator().manual_seed(0))
        # The plain kernel is products of matrices, which are counted on a CPU as well.
        with (
            torch.inference_mode(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            component.run(network, *inputs)
        assert counter.get_total_flops() == component.work(size, 4)[0]


def test_a_frame_is_what_is_published_of_it():
    small, large = (checkpoint.read(FULL, f"{size}-Base") for size in ("0.6B", "1.7B"))
    step = [closed_form.prefill_flop(of.talker, 1) / 1e9 for of in (small, large)]
    frame = [closed_form.frame_flop(of.predictor, of.talker.hidden_size) / 1e9 for of in (small, large)]
    read = [2 * closed_form.frame_weights(of.predictor, of.talker.hidden_size) / 1e9 for of in (small, large)]
    assert step == [pytest.approx(0.887, rel=0.002), pytest.approx(2.831, rel=0.002)]
    # 31 inputs of a frame would be projected; ours are, but for the hidden state, when they are loaded.
    assert frame == [pytest.approx(2.585, rel=0.002), pytest.approx(2.589, rel=0.002)]
    assert read[0] == pytest.approx(2.42, rel=0.002)
    decoder = small.decoder
    per_frame = closed_form.decoder_flop(decoder, 50, closed_form.window_pairs(decoder, 50)) / 50
    assert per_frame / 1e9 == pytest.approx(4.96, rel=0.002)
    assert 4 * closed_form.decoder_weights(decoder) / 1e9 == pytest.approx(0.457, rel=0.15)
