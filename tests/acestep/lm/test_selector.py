"""The token selector lays a mask over logits, which stay as they are."""

from types import SimpleNamespace

import torch

from acestep.lm.decode.selector import ConstrainedDecoder, TokenSelector
from acestep.lm.grammar.allowed import Free
from harness.nn.sampling import Sampling


def test_what_was_suppressed_is_allowed_again_with_the_same_bits(monkeypatch):
    """A mask is laid over logits that stay as they are: a later step may allow what this one did not."""
    scores = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    before, half = scores.clone(), torch.rand(1000, generator=torch.Generator().manual_seed(3)) < 0.5
    seen = []

    def pick(self, masked: torch.Tensor, *others) -> torch.Tensor:
        seen.append(masked)
        return masked.argmax(-1)

    monkeypatch.setattr(Sampling, "pick", pick)
    selector = TokenSelector(Sampling(1.0), [0], torch.device("cpu"))
    for mask in (half, ~half, torch.ones(1000, dtype=torch.bool)):
        constraint = SimpleNamespace(
            allowed=lambda peek, mask=mask: Free(mask),
            advance=lambda token_ids: None,
            certain=lambda: (),
            done=False,
        )
        ConstrainedDecoder(selector, [[]], [constraint]).next(lambda rows: scores)  # type: ignore[list-item]
        assert torch.equal(seen[-1][:, mask], before[:, mask])
        assert (seen[-1][:, ~mask] == -torch.inf).all()
    assert torch.equal(seen[-1], before) and torch.equal(scores, before)
