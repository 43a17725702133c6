"""Each network of the subject beside its oracle, by the check that any subject's has; its FLOP as counted."""

from __future__ import annotations

import pytest
import torch
from oracles import LIMITS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness import registry
from harness.parity import check

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")  # diffusers'
SIZES = {"dit": 20, "vae_decoder": 5, "vae_encoder": 5, "text_encoder": 20, "lm": 20, "condition": 20}
COMPONENTS = registry.subject().components("synthetic-tiny")


def test_every_network_is_a_component():
    assert COMPONENTS.keys() == SIZES.keys()


@pytest.mark.parametrize("name", SIZES)
def test_a_network_is_its_oracle_and_the_control_trips(name):
    for one in check(COMPONENTS[name], SIZES[name], LIMITS):
        assert one.passes, one
        assert one.trips, one


@pytest.mark.parametrize("name", SIZES)
def test_flop_on_paper_are_flop_counted(name):
    """Counted are keys that a mask hides as well, which only clips of 30 s have many of."""
    component = COMPONENTS[name]
    network = component.build(torch.device("cpu"), torch.float32)
    inputs = component.inputs(SIZES[name], torch.Generator())
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        component.run(network, *inputs)
    flop, size_bytes = component.work(SIZES[name], 4)
    counted = counter.get_total_flops()
    assert (0.7 if name == "condition" else 0.95) * counted <= flop <= counted
    assert size_bytes > 4 * sum(value.numel() for value in inputs)
