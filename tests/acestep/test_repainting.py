"""What a repaint keeps of its recording: by mode, by strength, or as it is named itself."""

import pytest

from acestep import repainting
from acestep.request import GenerationParams


def resolved(**fields):
    params = repainting.resolved(GenerationParams(task_type="repaint", src_audio="a.wav", **fields))
    return tuple(getattr(params, name) for name in repainting.FIELDS)


@pytest.mark.parametrize(
    ("fields", "ratio", "frames", "splice_s"),
    [
        ({}, 0.5, 12, 0.025),
        ({"repaint_mode": "conservative"}, 1.0, 25, 0.05),
        ({"repaint_mode": "aggressive"}, 0.0, 0, None),
        ({"repaint_strength": 0.0}, 1.0, 25, 0.05),
        ({"repaint_strength": 0.9}, 0.1, 2, 0.005),
        ({"repaint_strength": 1.0}, 0.0, 0, 0.0),  # a hard cut: only an aggressive repaint has no splice
    ],
)
def test_a_mode_stands_for_a_ratio_and_two_crossfades(fields, ratio, frames, splice_s):
    expected = (pytest.approx(ratio), frames, splice_s if splice_s is None else pytest.approx(splice_s))
    assert resolved(**fields) == expected


@pytest.mark.parametrize("mode", ["conservative", "balanced", "aggressive"])
def test_what_is_named_itself_holds_in_every_mode(mode: str):
    named = dict(zip(repainting.FIELDS, (0.25, 3, 0.0), strict=True))
    assert resolved(repaint_mode=mode, **named) == (0.25, 3, 0.0)
    for place, name in enumerate(repainting.FIELDS):
        expected = [*resolved(repaint_mode=mode)]
        expected[place] = named[name]
        assert [*resolved(repaint_mode=mode, **{name: named[name]})] == expected
