"""A prediction of the very engine: what a frame launches, what it reads, and what bounds it."""

from dataclasses import replace

import pytest

from harness.accelerators import Accelerator
from harness.cards import find
from harness.trace.cost import Cost
from harness.trace.predict import predict
from subjects.qwen3_tts import closed_form
from subjects.qwen3_tts.__main__ import main
from subjects.qwen3_tts.costs import frame_launches
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
    assert predictor.work.flop == FRAMES * closed_form.frame_flop(configs.predictor, width)
    weights = 2 * FRAMES * closed_form.frame_weights(configs.predictor, width)
    assert weights < predictor.work.read_bytes < 1.5 * weights  # narrow as it is, states weigh something


def test_a_frame_is_few_launches_with_graphs_and_thousands_without():
    with_graphs, without = (frame_launches(plan(graphs), CARD) for graphs in (True, False))
    assert sum(with_graphs.values()) <= 60
    assert sum(without.values()) > 600 and without["code_predictor"] > 15 * 30


def test_a_frame_waits_for_nothing(eager):
    more = predict(SUBJECT, replace(plan(False), frames=FRAMES + 1), CARD)
    assert more.work.syncs == eager.work.syncs


def test_the_command_says_all_of_it(capsys):
    argv = ["costs", "--source", "synthetic-tiny", "--card", "rtx4060", "--duration", "0.24"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "verdict fits" in text and "code_predictor" in text and "launches: " in text
