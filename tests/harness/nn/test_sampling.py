"""The sampler against sorting, which it avoids, and against the distribution it claims."""

import pytest
import torch

from harness.nn import sampling as module
from harness.nn.sampling import Sampling, draw, nucleus_floor


def logits(rows: int, size: int, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * spread


def sorted_nucleus(probabilities: torch.Tensor, mass: float) -> set[int]:
    """Tokens up to and including the first that brings the running sum to `mass`."""
    order = probabilities.argsort(descending=True)
    before = probabilities[order].double().cumsum(0) - probabilities[order].double()
    return set(order[before < mass].tolist())


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [5, 1000, 64_000])
def test_nucleus_is_what_sorting_finds(size: int, mass: float):
    probabilities = logits(3, size).softmax(-1)
    floor = nucleus_floor(probabilities, mass)
    for row, lowest in zip(probabilities, floor, strict=True):
        kept = set((row >= lowest).nonzero()[:, 0].tolist())
        expected = sorted_nucleus(row, mass)
        # fp32 sums in another order may move the edge by a token of negligible mass
        assert sum(row[i].item() for i in kept ^ expected) < 1e-5
        assert kept


@pytest.mark.parametrize("seed", range(20))
def test_nucleus_is_exact_where_sums_are(seed: int):
    """Whole multiples of 2^-20: every sum is exact in fp32, many tokens tie, masses end between them."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randint(0, 40, (3, 300), generator=generator) ** 2
    parts[:, 0] += 2**20 - parts.sum(-1)
    probabilities = parts / 2**20
    edges = probabilities.sort(-1, descending=True).values.cumsum(-1)[0, [0, 1, 7, 50, 150]].tolist()
    for mass in [edge + off for edge in edges for off in (-(2.0**-20), 0.0, 2.0**-20)]:
        floor = nucleus_floor(probabilities, mass)
        for row, lowest in zip(probabilities, floor, strict=True):
            least = min(row[i].item() for i in sorted_nucleus(row, mass))
            assert lowest.item() == least


def test_a_mass_that_rounds_to_nothing_is_the_likeliest_token():
    probabilities = logits(2, 1000).softmax(-1)
    for mass in (1e-30, 1e-9):
        assert torch.equal(nucleus_floor(probabilities, mass), probabilities.amax(-1, keepdim=True))


def test_nucleus_of_one_certain_token():
    probabilities = torch.tensor([[0.0, 1.0, 0.0]])
    assert (probabilities >= nucleus_floor(probabilities, 0.9)).tolist() == [[False, True, False]]


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    grid = (torch.arange(10_000) + 0.5) / 10_000
    picked = draw(probabilities.expand(10_000, -1), grid)
    assert torch.bincount(picked, minlength=4).tolist() == pytest.approx([1000, 0, 6000, 3000], abs=2)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_a_masked_token_is_never_drawn(uniform: float):
    masked = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]])
    for sampling in (Sampling(1.0), Sampling(0.5, top_p=0.9), Sampling(1.0, top_k=2)):
        assert sampling.pick(masked, torch.tensor([uniform])).item() in (1, 3)


def test_a_draw_is_an_index_whatever_is_drawn_from():
    assert draw(torch.full((1, 5), torch.nan), torch.tensor([0.5])).item() in range(5)


def test_temperature_zero_is_the_most_likely_token():
    scores = logits(4, 100)
    assert torch.equal(Sampling(0.0).pick(scores, torch.rand(4)), scores.argmax(-1))


def test_top_k_keeps_k():
    scores = logits(1, 1000).expand(500, -1)
    picked = Sampling(2.0, top_k=3).pick(scores, torch.rand(500, generator=torch.Generator().manual_seed(1)))
    assert set(picked.tolist()) == set(scores[0].topk(3).indices.tolist())


def test_top_p_looks_at_the_logits_before_temperature():
    scores = torch.tensor([[3.0, 0.0, 0.0, 0.0]]).expand(500, -1)  # 0.87 on the first token
    uniform = torch.rand(500, generator=torch.Generator().manual_seed(2))
    assert Sampling(10.0, top_p=0.8).pick(scores, uniform).unique().tolist() == [0]


def test_penalty_lowers_what_was_seen_and_nothing_else():
    scores = torch.tensor([[2.0, 1.9, -1.0]])
    seen = torch.tensor([[True, False, True]])
    assert Sampling(0.0, repetition_penalty=1.5).pick(scores, torch.rand(1), seen).item() == 1
    assert Sampling(0.0, repetition_penalty=1.5).pick(scores, torch.rand(1)).item() == 0


def test_an_items_draw_does_not_depend_on_its_batch():
    scores, uniform = logits(4, 500), torch.rand(4)
    sampling = Sampling(0.85, top_p=0.9)
    together = sampling.pick(scores, uniform)
    assert [
        sampling.pick(scores[i : i + 1], uniform[i : i + 1]).item() for i in range(4)
    ] == together.tolist()


def kept(monkeypatch: pytest.MonkeyPatch, sampling: Sampling, scores: torch.Tensor, **more) -> torch.Tensor:
    """The probabilities that are drawn from."""
    drawn = []

    def record(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        drawn.append(probabilities)
        return draw(probabilities, uniform)

    monkeypatch.setattr(module, "draw", record)
    sampling.pick(scores, torch.zeros(len(scores)), **more)
    return drawn[0]


def ties(seed: int, size: int = 40) -> torch.Tensor:
    """Logits of few different values, in fp32 without rounding."""
    return torch.randint(-6, 7, (3, size), generator=torch.Generator().manual_seed(seed)) / 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 7, 39, 40, 41, 1_000_000])
def test_top_k_keeps_what_fewer_than_k_are_likelier_than(monkeypatch, k: int, seed: int):
    scores = ties(seed)
    likelier = (scores[:, None, :] > scores[:, :, None]).sum(-1)  # than each
    probabilities = kept(monkeypatch, Sampling(1.0, top_k=k), scores)
    assert torch.equal(probabilities > 0, likelier < k)
    left = scores.double().masked_fill(likelier >= k, -torch.inf).softmax(-1)
    assert torch.allclose(probabilities.double(), left, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mass", [0.05, 0.5, 0.9, 0.95, 0.999])
def test_the_nucleus_holds_its_mass_and_without_its_least_would_not(monkeypatch, mass: float, seed: int):
    scores = ties(seed)
    inside = kept(monkeypatch, Sampling(1.0, top_p=mass), scores) > 0
    for row, members in zip(scores.double().softmax(-1), inside, strict=True):
        least = row[members].min()
        assert row[members].sum() > mass - 1e-6
        assert row[row > least * (1 + 1e-9)].sum() < mass + 1e-6
        assert not (row[~members] > least * (1 - 1e-9)).any()  # ties are members, and nothing is left out


@pytest.mark.parametrize("off", [{"top_p": 1.0}, {"top_p": 0.0}, {"top_k": 0}, {"top_k": 300}])
def test_what_is_off_changes_no_bit(monkeypatch, off):
    scores = logits(3, 300)
    assert torch.equal(kept(monkeypatch, Sampling(0.85, **off), scores), (scores / 0.85).softmax(-1))
