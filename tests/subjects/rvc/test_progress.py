"""The work that the time left is told by is that of the stages that run."""

import numpy as np
import pytest
from begun import begun

from subjects.rvc.conversion import chunks, quiet_points
from subjects.rvc.plan import resolve
from subjects.rvc.progress import BY_CHUNK, parts
from subjects.rvc.request import request
from subjects.rvc.setup import Setup


def test_each_part_is_a_stage_that_begins_once_in_this_order(engine):
    plan = engine.resolve(request(0.2, batch_size=2))
    stages = [part.stage for part in parts(plan)]
    assert [path for path in begun(lambda: engine.run(plan)) if path in stages] == stages
    assert all(part.work > 0 and not part.times for part in parts(plan))


@pytest.mark.parametrize("duration_s", [1.0, 40.9, 41.0, 76.0, 76.1, 200.0])
def test_the_chunks_of_a_recording_are_known_by_its_length(duration_s):
    plan = resolve(request(duration_s), Setup.choose("synthetic-tiny", device="cpu"))
    points = quiet_points(np.zeros(plan.samples))
    count = len([*chunks(plan.samples, points, plan.exact)])
    _, by_chunk, *others = parts(plan)
    assert (by_chunk.times, bool(others)) == ((count, False) if count > 1 else (0, True))
    assert (by_chunk.stage, *by_chunk.beside) == (BY_CHUNK if count > 1 else BY_CHUNK[:1])


def test_twice_the_items_are_twice_the_work_of_all_but_what_hears():
    one, two = (
        parts(resolve(request(1.0, batch_size=size), Setup.choose("synthetic-tiny", device="cpu")))
        for size in (1, 2)
    )
    ratios = {part.stage: more.work / part.work for part, more in zip(one, two, strict=True)}
    assert ratios == {"pitch": 1, "features": 1, "text_encode": 2, "flow": 2, "generate": 2}
