"""The recorder of a fake card: what CUDA graphs do to memory and time (`harness.graphs`).

record   runs nothing on the card, and costs the host its launches. Temporaries lie in pools of the
         recorder's own, which its steps share: they take as much as the step that needs most, in whole
         segments. All recorders use one stream, for which cuBLAS keeps a workspace of its own for good
replay   is one launch, and of each kernel the longest of arithmetic, traffic and what any kernel takes
end      the pools are free once no recording is left
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from harness.graphs import Step
from harness.trace.allocator import new_pools
from harness.trace.stage_costs import Work

if TYPE_CHECKING:
    from harness.trace.fake_card import FakeCard


class FakeRecorder:
    """See `harness.graphs.Recorder`."""

    def __init__(self, card: FakeCard):
        self._card = card
        self._pools = new_pools()
        card.warm_to_record()
        weakref.finalize(self, card.tracker.allocator.release, self._pools).atexit = False

    def record(self, step: Step) -> Step:
        """The recording of `step`. Raises RuntimeError where it meets the host, torch.OutOfMemoryError."""
        tracker = self._card.tracker
        tracker.empty_cache()
        tracker.recording = recording = list[Work]()
        try:
            with tracker.allocator.private(self._pools):
                step()
        finally:
            tracker.recording = None
        return partial(self._replay, recording)

    def _replay(self, recording: list[Work]) -> None:
        self._card.tracker.replay(recording)
