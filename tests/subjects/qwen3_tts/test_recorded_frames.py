"""The steps of a frame on a card: each is one recording, and a frame is a few launches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from tiny_speech import IDS, configs
from torch import Tensor, nn
from two_steps import check_two_steps

from harness.cards import find
from harness.checkpoint import assign, on_meta, parameter_shapes
from harness.device import VIRTUAL
from harness.graphs import Graphs
from harness.nn.packed import joined
from harness.spans import record, span
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from subjects.qwen3_tts.config import CodePredictorConfig, TalkerConfig
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.prompt import Embedded
from subjects.qwen3_tts.sampling import PUBLISHED

FRAMES = 12


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def card_of() -> FakeCard:
    """With the rules of CUDA's libraries: norms and rotations are fused there."""
    card = find("rtx4090")
    return FakeCard(card, libraries=CUDA(card.capability))


@pytest.fixture
def card() -> Iterator[FakeCard]:
    with card_of() as entered:
        yield entered


def on_card(module: nn.Module) -> nn.Module:
    """With weights in bf16 and, where they are one matrix, in one memory."""
    like, parts = torch.empty(1, device=VIRTUAL), joined(module)
    for name, shape in parameter_shapes(module).items():
        if part := parts.get(name):
            part.pack(like, like.device, torch.bfloat16)
        else:
            assign(module, name, torch.zeros(shape, dtype=torch.bfloat16, device=VIRTUAL))
    return module


def begun(
    card: FakeCard,
    of_talker: TalkerConfig,
    of_predictor: CodePredictorConfig,
    *,
    batch: int = 2,
    ends: bool = True,
    recorded: bool = False,
) -> FrameLoop:
    width = of_talker.hidden_size
    talker = on_card(on_meta(lambda: Talker(of_talker)))
    predictor = on_card(on_meta(lambda: CodePredictor(of_predictor, width)))
    eos = IDS.eos if of_talker.vocab_size < 100 else 2150
    graphs = Graphs.on(card.device, recorded)
    memory = {"batch": batch, "rows": 20, "frames": FRAMES}
    loop = FrameLoop(talker, predictor, **memory, sampling=PUBLISHED, ends=ends, eos=eos, graphs=graphs)
    rows = torch.zeros(10, width, dtype=torch.bfloat16, device=VIRTUAL)
    streams = [torch.Generator().manual_seed(item) for item in range(batch)]
    loop.begin([Embedded(rows, rows[:3], rows[0])] * batch, streams)
    loop.prefill()
    return loop


def steps(loop: FrameLoop) -> dict[str, Callable[[], None]]:
    return {
        "talker": partial(loop._step, loop.block),
        "first": loop._draw_first,
        "others": loop._draw_others,
    }


@pytest.mark.parametrize("width", [16, 32])  # without and with a projection before the predictor
@pytest.mark.parametrize("step", ["talker", "first", "others"])
def test_two_steps_running_are_one_recording(step: str, width: int, card: FakeCard):
    check_two_steps(card, steps(begun(card, *configs(width), ends=width == 16))[step])


KEPT: list[Tensor] = []
PLANTED: dict[str, Callable[[FrameLoop], object]] = {
    "a code is read back": lambda loop: loop.codes.tolist(),
    "a number is sent": lambda loop: torch.tensor([1], device=VIRTUAL),
    "a tensor stays": lambda loop: KEPT.append(loop.codes + 1),
    "codes are made anew": lambda loop: setattr(loop, "codes", loop.codes.clone()),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_no_recording_forgives_is_seen(fault: str, card: FakeCard):
    loop = begun(card, *configs())
    run = steps(loop)["first"]
    with pytest.raises(AssertionError):
        check_two_steps(card, lambda: (PLANTED[fault](loop), run()))
    KEPT.clear()


def launches(
    configs: tuple[TalkerConfig, CodePredictorConfig],
    recorded: bool,
    damage: Callable[[FrameLoop], object] = lambda loop: None,
) -> Counter[str]:
    """What the host launches for a frame, once all that it needs is recorded, by stage."""
    with card_of() as card:
        loop = begun(card, *configs, batch=1, ends=False, recorded=recorded)
        for _ in range(2):
            loop.frame()
        card.tracker.stage_costs.stages.clear()
        with record():
            loop.frame()
            with span("talker_decode"):
                damage(loop)
        assert not loop.fallbacks, loop.fallbacks
        totals = {name: stage.total() for name, stage in card.tracker.stage_costs.stages.items()}
        assert not any(work.crosses for work in totals.values()), "host and card meet"
        return Counter({name: work.launches for name, work in totals.items() if work.launches})


def test_a_recorded_frame_is_a_launch_for_each_stage():
    """However deep, wide and many-coded."""
    assert launches(configs(32), recorded=True) == {"talker_decode": 1, "sampling": 1, "code_predictor": 1}


def test_an_eager_frame_launches_every_kernel_of_every_layer():
    """Of 0.6B with one layer each: 28 and 5 are some 2,300."""
    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 1, "num_code_groups": 16}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    talker = TalkerConfig(**shape, **heads, vocab_size=3072, text_vocab_size=9, text_hidden_size=8)
    frame = launches((talker, CodePredictorConfig(**shape, **heads, vocab_size=2048)), recorded=False)
    assert frame["talker_decode"] > 15 and frame["code_predictor"] > 15 * 15 + 15 * 10


def test_a_value_that_is_read_back_is_seen():
    with pytest.raises(AssertionError, match="host and card meet"):
        launches(configs(), recorded=True, damage=lambda loop: loop.codes.tolist())


def test_a_step_that_reads_back_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch):
    draw = FrameLoop._draw_others
    monkeypatch.setattr(FrameLoop, "_draw_others", lambda self: (self.codes.tolist(), draw(self))[1])
    with pytest.raises(AssertionError, match="waits for the host"):
        launches(configs(), recorded=True)
