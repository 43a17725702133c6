"""The grammar of audio codes: exactly as many as asked for."""

import random

import pytest
import torch

from acestep.audio_codes import CODES
from acestep.lm.constraint import Codes, CodesConstraint, Done, allowed_mask
from acestep.tokenizer import FIRST_CODE, IM_END, LM_VOCAB, THINK


def check_codes(constraint, target):
    """Say anything allowed until done: it must be `target` codes and the end."""
    rng, said = random.Random(0), []
    while not isinstance(allowed := constraint.allowed(), Done):
        said.append(rng.choice(allowed_mask(allowed).nonzero().flatten().tolist()))
        constraint.advance(said[-1:])
    *codes, end = said
    assert end == IM_END
    assert all(FIRST_CODE <= code < FIRST_CODE + CODES for code in codes)
    assert len(codes) == target


@pytest.mark.parametrize("target", [0, 1, 2, 50])
def test_exactly_the_target_of_codes(target):
    check_codes(CodesConstraint(target), target)


@pytest.mark.parametrize("off", [-1, 1])
def test_the_code_checker_sees_an_off_by_one(off):
    with pytest.raises(AssertionError):
        check_codes(CodesConstraint(10 + off), 10)


def test_without_a_target_the_model_may_stop():
    constraint = CodesConstraint(None)
    assert constraint.allowed() == Codes(eos=True)
    constraint.advance([FIRST_CODE, FIRST_CODE + CODES - 1, IM_END])
    assert constraint.allowed() == Done()


@pytest.mark.parametrize(
    ("target", "said"),
    [(2, [IM_END]), (0, [FIRST_CODE]), (2, [FIRST_CODE + CODES]), (None, [THINK]), (None, [IM_END, IM_END])],
)
def test_codes_refuse_what_was_not_allowed(target, said):
    with pytest.raises(ValueError, match="is not allowed here"):
        CodesConstraint(target).advance(said)


def test_code_masks():
    for eos in (False, True):
        mask = allowed_mask(Codes(eos))
        expected = torch.zeros(LM_VOCAB, dtype=torch.bool)
        expected[151669:215669] = True
        expected[151645] = eos
        assert torch.equal(mask, expected)
        assert allowed_mask(Codes(eos)) is mask, "masks are built once"
