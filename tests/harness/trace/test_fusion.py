"""Kernels of compiled regions: the rule's are those of Inductor's own scheduler, and move what is outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from allocations import CARD, Small, clerk_of, small
from schedules import GRAPHS, Graph, Loops, inductors, ours, packed
from torch import Tensor

from harness.device import VIRTUAL
from harness.trace import fusion, inlining
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.regions import Region
from harness.trace.stage_costs import Work
from harness.trace.tracker import Alloc

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")  # torch's own, of itself


def by_rule(graph: Callable[[Small], Graph]) -> Loops:
    with FakeCard(CARD), torch.inference_mode():
        function, args = graph(packed(small(torch.bfloat16, VIRTUAL)))
        return ours(function, *args)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_rules_kernels_are_inductors(name, monkeypatch):
    """Each with as many points and rows, and as many bytes to write: of a cache Inductor counts all."""
    with torch.inference_mode():
        function, args = GRAPHS[name](packed(small(torch.bfloat16)))
    theirs = inductors(function, *args)
    found = by_rule(GRAPHS[name])
    assert [kernel[:2] for kernel in found] == [kernel[:2] for kernel in theirs]
    assert found == theirs or name == "lm_step"
    # The control: a rule that inlines nothing and leaves loops apart.
    monkeypatch.setattr(inlining, "_lies", lambda value, loads: True)
    monkeypatch.setattr(fusion, "_fit", lambda first, second: False)
    assert len(by_rule(GRAPHS[name])) > 2 * len(theirs)


@pytest.mark.parametrize(("name", "kernels"), [("dit_layer", 16), ("lm_step", 11)])
def test_a_layer_on_a_card_is_few_kernels(name, kernels):
    """Norm, product, queries, keys (with a cache: and values, into it), attention, way out; sum and norm; in
    a DiT query, its norm, attention, way out, sum and norm; product, SiLU of both, product, sum."""
    with FakeCard(CARD, libraries=CUDA((9, 0))) as card, torch.inference_mode():
        function, args = GRAPHS[name](packed(small(torch.bfloat16, VIRTUAL)))
        with clerk_of(card) as clerk:
            torch.compile(function)(*args)
        with clerk_of(card) as eager:
            function(*args)
    assert clerk.work.launches == kernels < eager.work.launches


def test_a_layer_of_the_dit_moves_28_hidden_states_between_its_products():
    """At the published widths (docs/costs.md), where A = H, K = H / 2 and I = 3·H.

    Inductor computes a sum of the residual stream again wherever it is read, and stores none but the last.
    """
    moved: Counter[str] = Counter()
    with FakeCard(CARD, libraries=CUDA((9, 0))) as card, torch.inference_mode():
        nets = packed(small(torch.bfloat16, VIRTUAL))
        function, args = GRAPHS["dit_layer"](nets)
        listener = Mock(on_op=lambda work: moved.update({work.kind: work.read_bytes + work.written_bytes}))
        card.tracker.listeners.append(listener)
        torch.compile(function)(*args)
    config = nets.ace_step.decoder.config
    h, i, d = config.hidden_size, config.intermediate_size, config.head_dim
    a, k = d * config.num_attention_heads, d * config.num_key_value_heads
    sums = (
        2 * h + 3 * h + 4 * h + 5 * h
    )  # of one, two, three and four that are read, the norms or the last sum
    heads = 2 * (a + k) + 2 * a  # norm and rotation; cross-attention's norm
    tables = 2 * 2 * d  # of queries, and of keys
    vectors = (6 + 2) * h + 3 * (h + d)  # modulation, of which the first gate three times; norms
    tokens = args[0].shape[1]
    assert moved["pointwise"] == 2 * (tokens * (sums + heads + 3 * i + tables) + vectors)
    assert sums / h + (3 + 2) + 3 * 3 == 28
    assert set(moved) == {"matmul", "attention", "pointwise"}


def test_a_kernel_reads_what_is_outside_once_and_writes_what_is_used_there(card):
    """Snake between two convolutions: five operators, one kernel; no temporary has memory."""
    x, weight = (torch.zeros(*size, device=VIRTUAL) for size in ((1, 8, 500), (8, 8, 1)))
    frequency = torch.zeros(1, 8, 1, device=VIRTUAL)

    def unit(x: Tensor) -> Tensor:
        wave = F.conv1d(x, weight)
        return F.conv1d(wave + (wave * frequency).sin_().square_() / frequency, weight)

    with clerk_of(card) as eager, torch.inference_mode():
        unit(x)
    with clerk_of(card) as fused, torch.inference_mode():
        torch.compile(unit)(x)
    convolutions = 2 * (2 * x.nbytes + weight.nbytes)
    assert eager.work.launches == 2 + 5 and fused.work.launches == 2 + 1
    assert fused.work.read_bytes + fused.work.written_bytes == convolutions + 2 * x.nbytes + frequency.nbytes
    assert fused.work.flop == eager.work.flop
    assert fused.memory.changes == [x.nbytes, x.nbytes, -x.nbytes, x.nbytes, -x.nbytes, -x.nbytes]
    assert eager.memory.peak_bytes == 3 * x.nbytes


def test_rows_are_reduced_where_they_are_used(card):
    """A softmax of scaled scores with a mask is one pass over them, however it is written."""
    scores, mask = torch.zeros(16, 32, device=VIRTUAL), torch.zeros(32, device=VIRTUAL)

    def softmax(x: Tensor) -> Tensor:
        x = (x * 0.1 + mask).exp()
        return x / x.sum(-1, keepdim=True)

    with clerk_of(card) as clerk, torch.inference_mode():
        torch.compile(softmax)(scores)
    assert clerk.work == Work(read_bytes=scores.nbytes + mask.nbytes, written_bytes=scores.nbytes, launches=1)
    assert clerk.memory.changes == [scores.nbytes, -scores.nbytes]


def test_what_is_written_into_a_buffer_of_before_costs_what_is_written(card):
    """Keys go into a cache, scaled on the way; the cache is read afterwards."""
    cache, keys = torch.zeros(4, 100, 8, device=VIRTUAL), torch.zeros(4, 1, 8, device=VIRTUAL)

    def step() -> Tensor:
        cache[:, 7:8] = keys * 2
        return keys.squeeze(1).unsqueeze(1) @ cache.transpose(1, 2)

    with clerk_of(card) as clerk, torch.inference_mode():
        scores = torch.compile(step)()
    assert clerk.work.launches == 2
    assert clerk.work.written_bytes == keys.nbytes + scores.nbytes
    assert clerk.work.read_bytes == 2 * keys.nbytes + cache.nbytes


def test_a_compiled_module_is_traced_once_and_costs_the_same_again():
    with FakeCard(CARD, traces={}, repeated=(torch.nn.SiLU,)) as card, torch.inference_mode():
        act, x = torch.nn.SiLU(), torch.zeros(100, device=VIRTUAL)
        plain = act(x)
        act.compile(fullgraph=True, dynamic=False)
        runs = []
        for _ in range(2):
            with clerk_of(card) as clerk:
                again = act(x)
            runs.append((clerk.work, clerk.memory.changes[:1]))
        assert again.shape == plain.shape and card.holds(again)
        assert runs[0] == runs[1] == (Work(0, 400, 400, 1), [400])
        assert card.trace_cache and len(card.trace_cache.traces) == 2


def test_what_is_to_run_eagerly_does(card):
    x = torch.zeros(100, device=VIRTUAL)
    double = torch.compile(lambda x: (x + x) * 2)
    with clerk_of(card) as clerk, torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        double(x)
    assert clerk.work.launches == 2
    with clerk_of(card) as clerk, torch.inference_mode():
        double(x)
    assert clerk.work.launches == 1


def test_the_order_of_what_is_left_behind_is_not_the_heaps():
    """The third storage lies where the first, which is gone, did."""
    region = Region()
    for place in (7, 3, 7):
        region.take(SimpleNamespace(_cdata=place), Alloc(8, "aten::empty", "here"))
    assert list(region.alive({7: None, 3: None})) == [1, 2]


def test_beside_the_card_nothing_is_patched():
    compiled = torch.compile
    with FakeCard(CARD):
        assert torch.compile is not compiled
    assert torch.compile is compiled
