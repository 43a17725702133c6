"""The compiled DiT: no graph breaks, few graphs, kept by bucket."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from compiled_dit import BEYOND, CONFIG, CPU, TIMES, WITHIN, CompiledDiT, conditions, modulation, small_dit
from torch import Tensor, nn

from acestep.diffusion import sampler as diffusion
from acestep.diffusion import step
from acestep.models import dit as dit_module
from harness import compiling
from harness import device as devices
from harness.spans import record
from harness.trace.frames import unhooked

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),  # torch's own, of itself
    pytest.mark.usefixtures("unhampered"),
]


def calls_hold_their_arguments() -> bool:
    def takes(thing: nn.Module) -> bool:
        seen = weakref.ref(thing)
        del thing
        return seen() is not None

    return takes(nn.Module())


@pytest.mark.parametrize(
    ("guided", "frames"),
    [
        (False, WITHIN),
        (True, BEYOND),
        pytest.param(False, BEYOND, marks=pytest.mark.nightly),
        pytest.param(True, WITHIN, marks=pytest.mark.nightly),
    ],
)
def test_a_whole_pass_is_one_graph(frames: int, guided: bool):
    dit = small_dit()
    run = dit.both if guided else dit.velocity
    x, shape, times = torch.randn(2, frames, 64), conditions(dit, 2, frames, guided=guided), modulation(dit)
    whole = torch.compile(run, fullgraph=True, backend="eager")
    assert torch.equal(whole(x, shape, times, 1), run(x, shape, times, 1))


def test_what_a_card_runs_is_one_graph_and_warns_of_nothing(monkeypatch: pytest.MonkeyPatch):
    """Its fused operators and its flash kernel, captured on a CPU that answers as a card does."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(devices.capabilities, "cpu", devices.capabilities["cuda"])
    called: set[str] = set()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., list[Tensor]]:
        called.update(str(node.target) for node in graph.graph.nodes)
        (results,) = next(node for node in graph.graph.nodes if node.op == "output").args
        like = [result.meta["example_value"] for result in results]
        return lambda *_: [torch.zeros(value.shape, dtype=value.dtype) for value in like]

    dit = small_dit(layers=2).bfloat16()
    sizes = (BEYOND, 64), (BEYOND, 128), (11, CONFIG.encoder.hidden_size)
    x, source, encoded = (torch.zeros(1, *size, dtype=torch.bfloat16) for size in sizes)
    tables = diffusion.modulate(dit, TIMES, torch.bfloat16, CPU)
    for layer in dit.layers:
        layer.compile(fullgraph=True, dynamic=False, backend=backend)
    dit.velocity(x, dit.condition(source, encoded), tables, 0)
    assert "aten._flash_attention_forward" in called


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace the builtin")  # after the break
def test_a_value_that_is_read_back_is_a_graph_break_and_an_error(
    graphs: list, monkeypatch: pytest.MonkeyPatch
):
    dit = small_dit()

    def reading(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q if k.amax() > 0 else -q

    monkeypatch.setattr(dit_module, "full", reading)
    x, shape = torch.randn(1, WITHIN, 64), conditions(dit, 1, WITHIN, guided=False)
    explained = torch._dynamo.explain(dit.velocity)(x, shape, modulation(dit), 1)
    assert explained.graph_break_count > 0
    compiled = CompiledDiT(dit)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled.warm(shape, modulation(dit), guided=False)
    assert calls_hold_their_arguments()  # not so: `harness.trace.frames` can go
    with unhooked():
        assert not calls_hold_their_arguments()
    assert calls_hold_their_arguments()


@pytest.mark.parametrize(("frames", "expected"), [(WITHIN, 1), (BEYOND, 2)])
@pytest.mark.parametrize("guided", [False, True])
def test_every_layer_runs_one_graph_per_kind_of_attention(
    graphs: list, frames: int, expected: int, guided: bool
):
    dit = small_dit()
    CompiledDiT(dit).warm(conditions(dit, 1, frames, guided=guided), modulation(dit), guided)
    assert len(graphs) == expected


@pytest.mark.parametrize("guided", [False, True])
def test_neither_another_prompt_nor_weights_that_moved_compile_again(graphs: list, guided: bool):
    dit = small_dit()
    times, x = modulation(dit), torch.randn(2, BEYOND, 64)
    compiled = CompiledDiT(dit)
    compiled.warm(conditions(dit, 2, BEYOND, guided=guided), times, guided)
    run, before = (dit.velocities if guided else dit.velocity), len(graphs)
    for encoder_tokens in (2, 21, 300):  # 21: as many as the latents have
        shape = conditions(dit, 2, BEYOND, guided=guided, encoder_tokens=encoder_tokens)
        for parameter in dit.parameters():  # as `residency` does
            parameter.data = parameter.data * 1.1
        with compiled.frozen():
            outputs = run(x, shape, times, 2)
        with torch.compiler.set_stance("force_eager"):
            expected = run(x, shape, times, 2)
        for ours, plain in zip(outputs, expected, strict=True):
            assert torch.equal(ours, plain)
    assert len(graphs) == before


def test_a_step_that_would_have_to_compile_is_an_error(graphs: list):
    dit = small_dit()
    times, compiled = modulation(dit), CompiledDiT(dit)
    compiled.warm(conditions(dit, 1, WITHIN, guided=False), times, guided=False)
    x, other = torch.randn(1, WITHIN - 2, 64), conditions(dit, 1, WITHIN - 2, guided=False)
    with compiled.frozen(), pytest.raises(RuntimeError, match="fail_on_recompile"):
        dit.velocity(x, other, times, 0)
    dit.velocity(x, other, times, 0)
    assert len(graphs) == 2


def test_compiling_is_a_stage_of_the_first_request_of_a_bucket(graphs: list):
    dit = small_dit()
    times, compiled = modulation(dit), CompiledDiT(dit)
    stages = []
    for frames, guided in ((WITHIN, True), (WITHIN, True), (BEYOND, True), (WITHIN, False), (WITHIN, True)):
        with record() as spans:
            compiled.warm(conditions(dit, 1, frames, guided=guided), times, guided)
        stages.append("compile" in spans.stages())
    assert stages == [True, False, True, True, False]


@pytest.mark.nightly
def test_more_buckets_than_are_kept_start_anew(graphs: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "BUCKETS", 2)
    dit = small_dit(layers=2)
    times, compiled = modulation(dit), CompiledDiT(dit)
    sizes = (BEYOND, BEYOND + 2, BEYOND + 4, BEYOND)
    for frames in sizes:
        compiled.warm(conditions(dit, 1, frames, guided=False), times, guided=False)
        with compiled.frozen():
            dit.velocity(torch.randn(1, frames, 64), conditions(dit, 1, frames, guided=False), times, 0)
    assert len(graphs) == 2 * len(sizes)


def test_buckets_that_are_needed_together_are_kept_together(graphs: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "BUCKETS", 2)
    dit = small_dit(layers=2)
    times, compiled = modulation(dit), CompiledDiT(dit)
    first, *both = (conditions(dit, 1, frames, guided=False) for frames in (BEYOND, BEYOND + 2, BEYOND + 4))
    compiled.warm(first, times, guided=False)
    compiled.compiled.room(step.bucket(given, False) for given in both)
    for given in both:
        compiled.warm(given, times, guided=False)
    compiled.compiled.room(step.bucket(given, False) for given in both)  # nothing new: nothing goes
    with compiled.frozen():
        for given in both:
            dit.velocity(torch.randn(1, given.frames, 64), given, times, 0)
        with pytest.raises(RuntimeError, match="fail_on_recompile"):  # the first has made room
            dit.velocity(torch.randn(1, first.frames, 64), first, times, 0)
    assert len(graphs) == 2 * 3


def test_more_graphs_than_are_allowed_are_an_error_and_not_eager(
    graphs: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(compiling.OPTIONS, "recompile_limit", 2 * 2)
    dit = small_dit(layers=2)
    times, last = modulation(dit), BEYOND + 4
    CompiledDiT(dit)
    for frames in range(BEYOND, last, 2):
        dit.velocity(torch.randn(1, frames, 64), conditions(dit, 1, frames, guided=False), times, 0)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        dit.velocity(torch.randn(1, last, 64), conditions(dit, 1, last, guided=False), times, 0)
