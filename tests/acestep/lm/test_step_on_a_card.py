"""The step of audio codes on a card: two running are one recording, and nothing is read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from code_steps import CASES, Case, Codes, opened
from scenarios import LM, SOURCE, our_own
from torch import Tensor
from two_steps import check_two_steps

from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode import kv_cache
from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.decode.selector import TokenSelector
from acestep.lm.decode.step import CodeStep, code_steps
from harness.cards import find
from harness.checkpoint import assign, on_meta
from harness.device import VIRTUAL
from harness.graphs import Graphs
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.spans import record
from harness.trace.fake_card import FakeCard

pytestmark = pytest.mark.usefixtures("inference")


@pytest.fixture
def card() -> Iterator[FakeCard]:
    with FakeCard(find("rtx4090")) as entered:
        yield entered


def on_card(case: Case, card: FakeCard) -> CodeStep:
    """A step of `case` on the fake card, that it has room to repeat."""
    state, codes = opened(model_on(card), case, card.device)
    codes.next(state.head, codes.live(0))
    return next(code_steps(state, codes))


def model_on(card: FakeCard) -> PT:
    config = parse_config(SOURCE.config(LM), Qwen3Config, LM)
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    for name, parameter in list(model.named_parameters()):
        assign(model, name, torch.zeros(parameter.shape, dtype=torch.bfloat16, device=VIRTUAL))
    return PT(model, card.device)


def work_on_a_card(recorded: bool, on_code: Callable[[int], object] | None) -> dict[str, list[int]]:
    """What a card does in each stage of writing codes."""
    case = Case((1, 3), guided=False)
    with FakeCard(find("rtx4090")) as card, record():
        selector = TokenSelector(case.sampling, case.seeds, card.device)
        graphs = Graphs.on(card.device, recorded)
        decode_loop = CachedDecodeLoop(selector, model_on(card)._open, lambda: graphs)
        decode_loop.codes(case.prompts, case.counts, case.guidance, on_code)
        return {name: stage.work for name, stage in card.tracker.stage_costs.stages.items()}


@pytest.mark.parametrize("recorded", [False, True])
def test_a_card_does_nothing_more_where_codes_are_told(recorded: bool):
    untold = work_on_a_card(recorded, None)
    assert work_on_a_card(recorded, lambda count: None) == untold
    read_back = work_on_a_card(recorded, lambda count: torch.ones(1, device=VIRTUAL).tolist())
    assert {name for name in untold if read_back[name] != untold[name]} == {"lm_decode"}


@pytest.mark.parametrize("name", CASES)
def test_two_steps_running_are_one_recording(name: str, card: FakeCard):
    check_two_steps(card, on_card(CASES[name], card))


KEPT: list[Tensor] = []
# What a step does beside, and what is said of it.
PLANTED: dict[str, tuple[Callable[[CodeStep], object], str]] = {
    "a code is read back": (lambda step: step.codes._tokens.tolist(), "host and card meet"),
    "a number is sent": (lambda step: torch.tensor([1], device=VIRTUAL), "host and card meet"),
    "a tensor stays": (lambda step: KEPT.append(step.codes._tokens + 1), "stay allocated"),
    "hidden states are made anew": (
        lambda step: setattr(step.window.state, "hidden", step.window.state.hidden.clone()),
        "of before is freed|stay allocated",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_no_recording_forgives_is_seen(fault: str, card: FakeCard, monkeypatch: pytest.MonkeyPatch):
    (plant, message), run = PLANTED[fault], CodeStep.__call__
    monkeypatch.setattr(CodeStep, "__call__", lambda self: (plant(self), run(self)))
    first = on_card(CASES["unequal counts"], card)
    with pytest.raises(AssertionError, match=message):
        check_two_steps(card, first)
    KEPT.clear()


def test_a_shape_that_grows_is_seen(card: FakeCard, monkeypatch: pytest.MonkeyPatch):
    """Attention over as much as there is, as on a CPU: the step after is another one."""
    monkeypatch.setattr(kv_cache, "block_of", lambda device: 1)
    first = on_card(CASES["unequal counts"], card)
    steps: Sequence[CodeStep] = list(code_steps(first.window.state, first.codes))
    turns = iter([steps[0], *steps])
    with pytest.raises(AssertionError, match="in the first step"):
        check_two_steps(card, lambda: next(turns)())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_on_a_real_card(name: str, recorded: bool, expected: dict[str, Codes]):
    case, device = CASES[name], torch.device("cuda")
    backend, graphs = our_own(SOURCE, torch.float64, device), Graphs.on(device, recorded)
    selector = TokenSelector(case.sampling, case.seeds, device)
    loop = CachedDecodeLoop(selector, backend._open, lambda: graphs)
    codes = loop.codes(case.prompts, case.counts, case.guidance)
    assert [row.tolist() for row in codes] == expected[name]
    assert (graphs.failure, graphs.recording) == (None, recorded)
