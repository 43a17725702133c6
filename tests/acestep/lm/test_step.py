"""The step of audio codes: in whatever blocks, compiled or recorded, it writes what is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from code_steps import CASES, Case, Codes, opened, ours
from msgspec.structs import replace as with_fields
from replaying import Replaying
from scenarios import CPU, SOURCE, our_own

from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode import kv_cache, loop, selector, step
from acestep.lm.decode.kv_cache import KVState
from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.decode.selector import CodeDecoder, TokenSelector
from acestep.lm.decode.step import CodeStep, code_steps
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.nn import qwen3
from harness.nn.qwen3 import Qwen3
from harness.spans import record

pytestmark = pytest.mark.usefixtures("inference")
BLOCK = 8  # in place of hundreds


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "block_of", lambda device: BLOCK)


def written(case: Case, **how: Any) -> Codes:
    """The codes of the loop; `how`: of `CachedDecodeLoop`."""
    return [codes.tolist() for codes in loop_of(case, **how).codes(case.prompts, case.counts, case.guidance)]


def loop_of(case: Case, backend: PT | None = None, **how: Any) -> CachedDecodeLoop:
    return CachedDecodeLoop(TokenSelector(case.sampling, case.seeds, CPU), (backend or ours())._open, **how)


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_by_hand(name: str, expected: dict[str, Codes]):
    assert written(CASES[name]) == expected[name]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_code_is_told_when_it_is_there(
    recorded: bool, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Codes]
):
    case, codes_by_hand, decoders, codes = CASES["unequal counts"], expected["unequal counts"], [], []
    monkeypatch.setattr(loop, "CodeDecoder", lambda *how: decoders.append(CodeDecoder(*how)) or decoders[-1])

    def on_code(count: int) -> None:
        (decoder,) = decoders
        assert int(decoder._index) == count
        codes.append(int(decoder._codes[0, count - 1]))

    decode_loop = loop_of(case, open_graphs=lambda: Graphs(Replaying() if recorded else None))
    items = decode_loop.codes(case.prompts, case.counts, case.guidance, on_code)
    assert [item.tolist() for item in items] == codes_by_hand
    assert codes == max(codes_by_hand, key=len), "each code of the longest item, once"


@pytest.mark.parametrize("name", CASES)
def test_blocks_of_the_cache_and_recordings_change_no_code(
    name: str, blocks: None, expected: dict[str, Codes]
):
    case, recorder = CASES[name], Replaying()
    assert written(case) == expected[name]
    assert written(case, open_graphs=lambda: Graphs(recorder)) == expected[name]
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
def test_damage_to_a_step_is_noticed(
    damage: Callable, blocks: None, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Codes]
):
    damage(monkeypatch)
    case = CASES["unequal counts"]
    assert written(case, open_graphs=lambda: Graphs(Replaying())) != expected["unequal counts"]


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


def test_where_recording_fails_steps_are_called_and_that_is_told_once(
    blocks: None, expected: dict[str, Codes]
):
    case, recorder = CASES["unequal counts"], Refusing()
    loop = loop_of(case, open_graphs=lambda: Graphs(recorder))
    codes = loop.codes(case.prompts, case.counts, case.guidance)
    assert [row.tolist() for row in codes] == expected["unequal counts"]
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
    blocks: None, tmp_path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Codes]
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    case, compiled = CASES["guided"], CountingCompiled()
    model = our_own(SOURCE, torch.float64).model
    backend = PT(model, CPU, compiled=compiled)
    with record() as times:
        assert written(case, backend=backend, compiled=compiled) == expected["guided"]
    assert compiled.graphs == 1 < len(model.layers)
    assert list(times.stages()) == ["lm_prefill", "compile", "lm_decode", "other"]
    longer = replace(case, counts=(12,))
    assert written(longer, backend=backend, compiled=compiled) == written(longer)
    assert compiled.graphs == 1


def test_what_draws_a_code_is_a_graph_of_its_own_that_later_requests_find(
    blocks: None, tmp_path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Codes]
):
    """As on a card; a CPU draws as it did."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    case, compiled = CASES["guided"], CountingCompiled()
    assert step.compiled_pick(compiled, TokenSelector(case.sampling, case.seeds, CPU)) is None
    picks = iter([compiled.function(case.sampling.pick), compiled.function(replace(case.sampling).pick)])
    monkeypatch.setattr(loop, "compiled_pick", lambda *selector: next(picks))
    backend = PT(our_own(SOURCE, torch.float64).model, CPU, compiled=compiled)
    for _ in range(2):
        assert written(case, backend=backend, compiled=compiled) == expected["guided"]
        assert compiled.graphs == 1 + 1


def test_a_step_is_one_graph_without_a_break(blocks: None, monkeypatch: pytest.MonkeyPatch):
    """But for spans, which look at a clock."""
    case = CASES["unequal counts"]
    for module in (kv_cache, selector, step):
        monkeypatch.setattr(module, "span", lambda name: nullcontext())
    whole = ours().model
    model = Qwen3(with_fields(whole.config, num_hidden_layers=1))
    model.load_state_dict(whole.state_dict(), strict=False)
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
