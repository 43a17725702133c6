"""The step of audio codes: in whatever blocks, compiled or recorded, it writes what is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from msgspec.structs import replace as with_fields
from replaying import Replaying
from scenarios import CPU, LM, SOURCE, our_own
from torch import Tensor
from two_steps import check_two_steps

from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode import kv_cache, loop, selector, step
from acestep.lm.decode.kv_cache import KVState
from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.decode.selector import CodeDecoder, Guidance, TokenSelector
from acestep.lm.decode.step import CodeStep, code_steps
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import FIRST_CODE
from harness.cards import find
from harness.checkpoint import assign, on_meta
from harness.compiling import Compiled
from harness.device import VIRTUAL
from harness.graphs import Graphs
from harness.nn import qwen3
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling
from harness.spans import record
from harness.trace.fake_card import FakeCard

BLOCK = 8  # in place of hundreds
BACKEND = our_own(SOURCE, torch.float64)  # in which no rounding of a product changes what is sampled
# In blocks: a row that ends just before a border, on it, behind it, and one that is far from any.
PROMPTS = [[*range(100, 107)], [*range(100, 108)], [*range(100, 106), 9, 9, 9], [5, 6, 7]]
TWIN = [*range(100, 103), 8]
SAMPLED = Sampling(1.0, top_k=500, top_p=0.95, repetition_penalty=1.3)


@dataclass(frozen=True)
class Case:
    counts: tuple[int, ...]
    sampling: Sampling = SAMPLED
    guided: bool = True

    @property
    def prompts(self) -> list[list[int]]:
        return PROMPTS[: len(self.counts)]

    @property
    def guidance(self) -> Guidance | None:
        return Guidance(2.0, TWIN) if self.guided else None

    @property
    def seeds(self) -> list[int]:
        return [3 + item for item in range(len(self.counts))]


CASES = {
    "greedy": Case((9,), Sampling(0.0), guided=False),
    "guided": Case((9,)),
    "a penalty": Case((4, 4), replace(SAMPLED, top_p=1.0), guided=False),
    "unequal counts": Case((4, 9, 2)),
    "the first to end comes last": Case((2, 3, 3, 6), guided=False),
}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "block_of", lambda device: BLOCK)


def by_hand(case: Case) -> list[list[int]]:
    """Each item alone, each code from its whole text run again."""
    head = BACKEND.model.embed_tokens.weight[FIRST_CODE : FIRST_CODE + CODES]

    def logits(ids: list[int]) -> Tensor:
        return F.linear(BACKEND.model(torch.tensor([ids]))[:, -1], head).float()

    items = []
    for prompt, count, seed in zip(case.prompts, case.counts, case.seeds, strict=True):
        draws = torch.rand(count, generator=torch.Generator().manual_seed(seed))
        codes: list[int] = []
        for draw in draws:
            written = [code + FIRST_CODE for code in codes]
            scores = logits(prompt + written)
            if case.guided:
                twin = logits(TWIN + written)
                scores = twin + 2.0 * (scores - twin)
            seen = torch.zeros(1, CODES, dtype=torch.bool)
            seen[0, codes] = True
            codes.append(int(case.sampling.pick(scores, draw[None], seen)))
        items.append(codes)
    return items


def written(case: Case, **how: Any) -> list[list[int]]:
    """The codes of the loop; `how`: of `CachedDecodeLoop`."""
    return [codes.tolist() for codes in loop_of(case, **how).codes(case.prompts, case.counts, case.guidance)]


def loop_of(case: Case, backend: PT = BACKEND, **how: Any) -> CachedDecodeLoop:
    return CachedDecodeLoop(TokenSelector(case.sampling, case.seeds, CPU), backend._open, **how)


EXPECTED = {name: by_hand(case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_by_hand(name: str):
    assert written(CASES[name]) == EXPECTED[name]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_code_is_told_when_it_is_there(recorded: bool, monkeypatch: pytest.MonkeyPatch):
    case, expected, decoders, codes = CASES["unequal counts"], EXPECTED["unequal counts"], [], []
    monkeypatch.setattr(loop, "CodeDecoder", lambda *how: decoders.append(CodeDecoder(*how)) or decoders[-1])

    def on_code(count: int) -> None:
        (decoder,) = decoders
        assert int(decoder._index) == count
        codes.append(int(decoder._codes[0, count - 1]))

    decode_loop = loop_of(case, open_graphs=lambda: Graphs(Replaying() if recorded else None))
    items = decode_loop.codes(case.prompts, case.counts, case.guidance, on_code)
    assert [item.tolist() for item in items] == expected
    assert codes == max(expected, key=len), "each code of the longest item, once"


@pytest.mark.parametrize("name", CASES)
def test_blocks_of_the_cache_and_recordings_change_no_code(name: str, blocks: None):
    case, recorder = CASES[name], Replaying()
    assert written(case) == EXPECTED[name]
    assert written(case, open_graphs=lambda: Graphs(recorder)) == EXPECTED[name]
    assert recorder.replayed == max(case.counts) - 1, "each step is a replay"
    assert recorder.recorded < recorder.replayed


def _no_advance(patch: pytest.MonkeyPatch) -> None:
    run = CodeStep.__call__

    def stuck(self: CodeStep) -> None:
        index = self.codes._index.clone()
        run(self)
        self.codes._index.copy_(index)

    patch.setattr(CodeStep, "__call__", stuck)


def _no_mask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(qwen3, "hide", lambda hidden, dtype: torch.zeros(hidden.shape, dtype=dtype))


def _a_trace_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KVState, "buffers", property(lambda self: [self.hidden]))


@pytest.mark.parametrize("damage", [_no_advance, _no_mask, _a_trace_is_left])
def test_damage_to_a_step_is_noticed(damage: Callable, blocks: None, monkeypatch: pytest.MonkeyPatch):
    damage(monkeypatch)
    case = CASES["unequal counts"]
    assert written(case, open_graphs=lambda: Graphs(Replaying())) != EXPECTED["unequal counts"]


def test_steps_are_recorded_in_a_stage_of_their_own(blocks: None):
    case, opened = CASES["unequal counts"], []

    def open_graphs() -> Graphs:
        opened.append(Graphs(Replaying()))
        return opened[-1]

    with record() as times:
        loop = loop_of(case, open_graphs=open_graphs)
        loop.codes(case.prompts, case.counts, case.guidance)
    assert list(times.stages()) == ["lm_prefill", "compile", "lm_decode", "other"]
    lengths = [len(prompt) for prompt in case.prompts]
    kinds = set()
    for index in range(1, max(case.counts)):
        live = [n for n, count in zip(lengths, case.counts, strict=True) if count > index]
        kinds.add((len(live), -(-(max(live) + index) // BLOCK)))
    assert len(times.samples("compile")) == len(kinds), "as many as there are items and blocks"
    assert not loop.fallbacks


class Refusing(Replaying):
    """Has room for one recording."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        if self.recorded:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTry to buy more.")
        return super().record(step)


def test_where_recording_fails_steps_are_called_and_that_is_told_once(blocks: None):
    case, recorder = CASES["unequal counts"], Refusing()
    loop = loop_of(case, open_graphs=lambda: Graphs(recorder))
    codes = loop.codes(case.prompts, case.counts, case.guidance)
    assert [row.tolist() for row in codes] == EXPECTED["unequal counts"]
    assert recorder.replayed == 0
    assert [str(fallback) for fallback in loop.fallbacks] == [
        "lm_decode: not recorded (out of memory: device memory ran out); launched kernel by kernel"
    ]


class CountingCompiled(Compiled):
    """Layers as graphs that are run as they were traced; `graphs`: how many there are."""

    graphs = 0

    def _backend(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward

    def layers(self, layers: Any) -> None:
        for layer in layers:
            layer.compile(fullgraph=True, dynamic=False, backend=self._backend)

    def function(self, function: Any) -> Any:
        return torch.compile(function, fullgraph=True, dynamic=False, backend=self._backend)


def test_one_compiled_layer_serves_all_of_them_all_blocks_and_all_requests(
    blocks: None, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    case, compiled = CASES["guided"], CountingCompiled()
    model = our_own(SOURCE, torch.float64).model
    backend = PT(model, CPU, compiled=compiled)
    with record() as times:
        assert written(case, backend=backend, compiled=compiled) == EXPECTED["guided"]
    assert compiled.graphs == 1 < len(model.layers)
    assert list(times.stages()) == ["lm_prefill", "compile", "lm_decode", "other"]
    longer = replace(case, counts=(12,))
    assert written(longer, backend=backend, compiled=compiled) == written(longer)
    assert compiled.graphs == 1


def test_what_draws_a_code_is_a_graph_of_its_own_that_later_requests_find(
    blocks: None, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """As on a card; a CPU draws as it did."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    case, compiled = CASES["guided"], CountingCompiled()
    assert step.compiled_pick(compiled, TokenSelector(case.sampling, case.seeds, CPU)) is None
    picks = iter([compiled.function(case.sampling.pick), compiled.function(replace(case.sampling).pick)])
    monkeypatch.setattr(loop, "compiled_pick", lambda *selector: next(picks))
    backend = PT(our_own(SOURCE, torch.float64).model, CPU, compiled=compiled)
    for _ in range(2):
        assert written(case, backend=backend, compiled=compiled) == EXPECTED["guided"]
        assert compiled.graphs == 1 + 1


def test_a_step_is_one_graph_without_a_break(blocks: None, monkeypatch: pytest.MonkeyPatch):
    """But for spans, which look at a clock."""
    case = CASES["unequal counts"]
    for module in (kv_cache, selector, step):
        monkeypatch.setattr(module, "span", lambda name: nullcontext())
    model = Qwen3(with_fields(BACKEND.model.config, num_hidden_layers=1))
    model.load_state_dict(BACKEND.model.state_dict(), strict=False)
    results = []
    for run in (lambda step: step, lambda step: torch.compile(step, fullgraph=True, backend="eager")):
        state, codes = opened(PT(model.double(), CPU), case, CPU)
        codes.next(state.head, codes.live(0))
        first = next(code_steps(state, codes))
        run(first.__call__)()
        results.append((codes._codes, state.hidden))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert results[0][0][:, 1].any()
    # The control: a code that is read back, and decides.
    before = CodeDecoder.before
    monkeypatch.setattr(
        CodeDecoder, "before", lambda self, live: before(self, live) if self._tokens.amin() >= 0 else None
    )
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(first.__call__, fullgraph=True, backend="eager")()


# On a card.


def opened(backend: PT, case: Case, device: torch.device) -> tuple[Any, CodeDecoder]:
    codes = CodeDecoder(TokenSelector(case.sampling, case.seeds, device), case.counts, case.guidance)
    return backend._open(codes.rows(case.prompts), codes.longest, []), codes


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
def test_on_a_real_card(name: str, recorded: bool):
    case, device = CASES[name], torch.device("cuda")
    backend, graphs = our_own(SOURCE, torch.float64, device), Graphs.on(device, recorded)
    selector = TokenSelector(case.sampling, case.seeds, device)
    loop = CachedDecodeLoop(selector, backend._open, lambda: graphs)
    codes = loop.codes(case.prompts, case.counts, case.guidance)
    assert [row.tolist() for row in codes] == EXPECTED[name]
    assert (graphs.failure, graphs.recording) == (None, recorded)
