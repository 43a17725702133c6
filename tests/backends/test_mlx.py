"""mlx-lm beside our own model: from the same weights the same logits, and so the same tokens."""

import sys
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scenarios import CPU, GREEDY, LM, SAMPLED, SCENARIOS, SOURCE, Checkpoint, heard, several
from torch import Tensor

from acestep.lm.backends.mlx_backend import MLX
from acestep.lm.backends.pt_backend import PT
from harness.errors import CheckpointError, MissingPrerequisite

needs_mlx = pytest.mark.skipif(
    find_spec("mlx_lm") is None, reason="mlx-lm is not installed: make test-backends"
)


def loaded(source: Checkpoint = SOURCE, dtype: torch.dtype = torch.float32) -> MLX:
    backend = MLX(source, LM, CPU, dtype)
    backend.load()
    return backend


@pytest.fixture(scope="module")
def mlx() -> MLX:
    return loaded()


@needs_mlx
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_greedy_tokens_and_work_are_those_of_our_own_model(scenario: str, mlx: MLX, pt: PT):
    expected, work = heard(pt, SCENARIOS[scenario], GREEDY)
    assert heard(mlx, SCENARIOS[scenario], GREEDY) == (expected, work) and all(expected)


@needs_mlx
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_draws_choose_the_same_tokens(scenario: str, mlx: MLX, pt: PT):
    """Rounding may tip a draw at the edge of two tokens: in texts this short it does not."""
    expected, _ = heard(pt, SCENARIOS[scenario], SAMPLED)
    assert heard(mlx, SCENARIOS[scenario], SAMPLED)[0] == expected
    assert expected != heard(pt, SCENARIOS[scenario], GREEDY)[0], "the case must draw"


@needs_mlx
def test_a_weight_that_is_off_is_heard(pt: PT):
    off = loaded(
        Checkpoint(lambda name, weight: weight * 1.5 if name.endswith("1.mlp.up_proj.weight") else weight)
    )
    for scenario in SCENARIOS.values():
        assert heard(off, scenario, GREEDY)[0] != heard(pt, scenario, GREEDY)[0]


@needs_mlx
@pytest.mark.parametrize("temperature", [GREEDY, SAMPLED])
def test_an_item_speaks_as_if_alone(temperature: float, mlx: MLX):
    together, _ = heard(mlx, several, temperature)
    for item in range(3):
        alone, _ = heard(mlx, several, temperature, items=(item,))
        assert alone == together[item::3]


def distance(backend: MLX, pt: PT) -> float:
    """How far the logits of a session are from those of our uncached model, relative, at the worst moment."""
    from acestep.lm.backends.mlx_cache import KVState

    rows = [[5, 6, 7, 8], [5, 6], [5, 6, 9], [5, 6]]
    session = KVState(backend.model, rows)
    assert session.prefill_tokens == 5, "what prompts share is read once"
    worst = 0.0

    def compare() -> None:
        nonlocal worst
        table = pt.model.embed_tokens.weight
        ours = torch.cat([pt.model(torch.tensor([ids]))[:, -1] for ids in rows]) @ table.T
        for some in (torch.arange(0, 217_204, 211), slice(1000, 3000)):
            logits = session.head(some)
            assert logits.dtype == torch.float32
            worst = max(worst, float((logits - ours[:, some]).norm() / ours[:, some].norm()))

    compare()
    for runs in ([1], [2, 3, 4], [], [5, 6]), ([], [7], [8], []), ([1], [1], [1], [1]):
        session.extend(runs)
        rows = [row + run for row, run in zip(rows, runs, strict=True)]
        compare()
    known, rows = [session.prefix(0), session.prefix(2)], rows[:2]
    session.window(2, 1).step(torch.tensor([11, 12]))
    rows = [[*row, token] for row, token in zip(rows, (11, 12), strict=True)]
    compare()
    rows = [[5, 6, 7, 8], [5, 6, 9, 9, 9], [4]]
    session = KVState(backend.model, rows, known)
    assert session.prefill_tokens == 1 + 2 + 1, "what was read before is not read again, but for a last token"
    compare()
    return worst


@needs_mlx
def test_logits_are_those_of_our_own_model(mlx: MLX, pt: PT):
    assert distance(mlx, pt) < 1e-5
    off = loaded(
        Checkpoint(lambda name, weight: weight * 1.01 if name.endswith("0.mlp.up_proj.weight") else weight)
    )
    assert distance(off, pt) > 1e-4
    assert 1e-3 < distance(loaded(dtype=torch.bfloat16), pt) < 2e-2


@needs_mlx
def test_weights_arrive_bit_for_bit():
    from mlx.core import uint16
    from mlx.utils import tree_flatten

    from acestep.lm.backends import mlx_cache

    def patterns(name: str, weight: Tensor) -> Tensor:
        """Every pattern of 16 bits, NaNs and subnormals too."""
        bits = torch.arange(weight.numel()).add(len(name)).to(torch.uint16)
        return bits.view(torch.bfloat16).view(weight.shape)

    source = Checkpoint(patterns)
    arrays = dict(tree_flatten(mlx_cache.load(source, LM, torch.bfloat16).parameters()))
    assert {name.removeprefix("model.") for name in arrays} == set(source.weights(LM).shapes())
    for name, array in arrays.items():
        expected = source.weights(LM).read(name.removeprefix("model.")).view(torch.uint16).numpy()
        assert np.array_equal(np.asarray(array.view(uint16)), expected), name


@needs_mlx
def test_facts_are_read_back_and_close_frees():
    import mlx.core as mx

    backend = loaded(dtype=torch.bfloat16)
    facts, before = backend.facts(), mx.get_active_memory()
    weight_bytes = 2 * sum(int(np.prod(shape)) for shape in SOURCE.weights(LM).shapes().values())
    assert (facts["dtype"], facts["weight_bytes"]) == ("bfloat16", weight_bytes)
    assert facts["device"] == str(mx.default_device()) == "Device(cpu, 0)"
    assert facts["version"] == f"mlx-lm {version('mlx-lm')}, mlx {version('mlx')}"
    tokens = heard(backend, SCENARIOS["create"], GREEDY)
    backend.close()
    assert mx.get_active_memory() <= before - weight_bytes
    with pytest.raises(RuntimeError, match="load"):
        backend.facts()
    backend.load()
    assert heard(backend, SCENARIOS["create"], GREEDY) == tokens


@needs_mlx
def test_a_checkpoint_that_does_not_fit_is_refused():
    class Short(Checkpoint):
        def weights(self, folder: str):
            weights = super().weights(folder)
            weights._shapes = {name: s for name, s in weights.shapes().items() if name != "norm.weight"}
            return weights

    with pytest.raises(CheckpointError, match=r"norm\.weight is missing"):
        loaded(Short())


@needs_mlx
@pytest.mark.skipif(sys.platform == "darwin", reason="there is a GPU")
def test_a_device_that_is_not_there_is_explained():
    with pytest.raises(MissingPrerequisite, match="lm_backend: mlx finds no mps here"):
        MLX(SOURCE, LM, torch.device("mps"), torch.float32).load()


@pytest.mark.parametrize("absent", ["mlx.core", "mlx_lm.models.qwen3"])
def test_absence_is_explained(absent: str, monkeypatch: pytest.MonkeyPatch):
    import acestep.lm.backends

    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.delitem(sys.modules, "acestep.lm.backends.mlx_cache", raising=False)
    monkeypatch.delattr(acestep.lm.backends, "mlx_cache", raising=False)
    with pytest.raises(
        MissingPrerequisite, match=r"mlx is not installed .*pip install '\.\[mlx\]', or use pt"
    ):
        loaded()
