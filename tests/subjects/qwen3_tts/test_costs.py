"""A prediction of the very engine: what a frame launches, what it reads, and what bounds it."""

from dataclasses import replace

import pytest
import torch

from harness.accelerators import Accelerator
from harness.cards import find
from harness.trace import calibration
from harness.trace import predict as predict_module
from harness.trace.cost import Cost
from harness.trace.predict import predict
from harness.virtual_card import VirtualBudget
from subjects.qwen3_tts import closed_form
from subjects.qwen3_tts.costs import MAKING, frame_launches
from subjects.qwen3_tts.layout import TINY
from subjects.qwen3_tts.plan import Plan, resolve
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.subject import SUBJECT

CARD = find("h200")
FRAMES = 2


def plan(graphs: bool) -> Plan:
    card = Accelerator("cuda", CARD.name, CARD.memory_gib, capability=CARD.capability)
    setup = Setup.choose(TINY, model="0.6B-CustomVoice", accelerator=card, graphs=graphs)
    return resolve(request(FRAMES * 0.08, text="a b"), setup)


@pytest.fixture(scope="module")
def eager() -> Cost:
    return predict(SUBJECT, plan(graphs=False), CARD)


def test_the_predictor_is_bound_by_launches_and_reads_its_weights_fifteen_times(eager):
    stages = {stage.stage: stage for stage in eager.stages}
    predictor = stages["code_predictor"]
    assert predictor.bound_by == "launches"
    configs = plan(False).setup.configs
    width = configs.talker.hidden_size
    heads = configs.predictor.num_attention_heads * configs.predictor.head_dim
    ahead = 4 * configs.predictor.num_hidden_layers * heads  # one pair, of a pass that is causal
    assert predictor.work.flop == FRAMES * (closed_form.frame_flop(configs.predictor, width) - ahead)
    weights = 2 * FRAMES * closed_form.frame_weights(configs.predictor, width)
    assert weights < predictor.work.read_bytes < 1.5 * weights  # narrow as it is, states weigh something


def test_a_frame_is_a_launch_for_each_step_with_graphs_and_hundreds_without(eager):
    assert frame_launches(plan(graphs=True), CARD) == dict.fromkeys(MAKING, 1)
    more = predict(SUBJECT, replace(plan(graphs=False), frames=FRAMES + 1), CARD)
    assert (
        more.work.launches - eager.work.launches > 600
    )  # of two layers of the predictor, four of the talker
    assert more.work.syncs == eager.work.syncs  # and a frame waits for nothing


@pytest.mark.parametrize("graphs", [True, False])
def test_a_stream_is_few_launches_a_frame_with_graphs_and_hundreds_without(graphs):
    """Of a frame three steps; of a piece of four its codes put together, a step, its samples taken home."""
    streamed = replace(plan(graphs), frames=12)
    launches = []
    with (
        torch.inference_mode(),
        predict_module.fake_card(SUBJECT, CARD, calibration.find(CARD)) as fake,
    ):
        engine = SUBJECT.load_fake(streamed.setup, fake, VirtualBudget(fake))
        for _ in engine.stream(streamed):
            launches.append(sum(s.total().launches for s in fake.tracker.stage_costs.stages.values()))
    last = (launches[2] - launches[1]) / streamed.request.chunk_frames
    assert 3 < last < 6 if graphs else last > 300
