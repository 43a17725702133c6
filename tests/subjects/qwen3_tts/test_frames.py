"""The frame loop: in whatever batch, blocks or recordings it writes what the formulas write, item by item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from plain_speech import PlainSpeech, frames
from replaying import Replaying
from tiny_speech import CODES, GROUPS, IDS, Speech, build, configs, speech

from harness.graphs import Graphs
from harness.nn import qwen3
from harness.spans import record
from subjects.qwen3_tts import frames as module
from subjects.qwen3_tts.frames import FrameLoop
from subjects.qwen3_tts.prompt import Prompt, Reference, embed, layout
from subjects.qwen3_tts.sampling import FrameSampling, Tempered, most_frames

BLOCK = 8  # in place of hundreds
FRAMES = 8
ROLE, END = [1, 2, 3], [4, 5, 6, 7, 8]
X_VECTOR = 0.1


def prompts() -> list[Prompt]:
    """Of three lengths and as many modes: texts that end before the frames do, and after them."""
    long = [*ROLE, *range(10, 19), *END]
    short = [*ROLE, 20, 21, *END]
    reference = Reference([*ROLE, 14, 15, 8, 9], [[5, 6, 7, 8], [9, 10, 11, 12]])
    return [
        layout(long, language="english", speaker="ryan", streaming=True, ids=IDS),
        layout(short, instruct=[30, 31], ids=IDS),
        layout(short, language="chinese", x_vector=True, reference=reference, streaming=True, ids=IDS),
    ]


@dataclass(frozen=True)
class Case:
    """`sampled`: temperature 0.9, top-k 6 and 10; `seeds`: of the items."""

    seeds: tuple[int, ...]
    sampled: bool = True
    ends: bool = True
    width: int = 16

    @property
    def sampling(self) -> FrameSampling:
        temperature = 0.9 if self.sampled else 0.0
        return FrameSampling(
            Tempered(temperature, top_k=6, repetition_penalty=1.3), Tempered(temperature, top_k=10)
        )

    def streams(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]


CASES = {
    "greedy, to the end": Case((0, 1, 2), sampled=False),
    "greedy, all frames": Case((0, 1, 2), sampled=False, ends=False),
    "sampled, to the end": Case((3, 4, 5)),
    "sampled, all frames": Case((3, 4, 5), ends=False),
    "one item": Case((7,)),
    "a projection": Case((8, 9), width=32),
}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@cache
def by_hand(case: Case) -> list[list[list[int]]]:
    """Each item alone, each code from its whole text run again."""
    weights = {name: value.numpy() for name, value in speech(case.width).weights.items()}
    plain = PlainSpeech(weights, *configs(case.width))
    how = {"eos": IDS.eos, "temperature": 0.9 if case.sampled else 0.0, "ends": case.ends, "penalty": 1.3}
    items = []
    for prompt, stream in zip(prompts(), case.streams(), strict=False):
        draws = torch.rand(FRAMES, GROUPS, generator=stream).double().numpy()
        x_vector = torch.full((case.width,), X_VECTOR).double().numpy()
        items.append(frames(plain, prompt, draws, **how, top_k=6, others_top_k=10, x_vector=x_vector))
    return items


def opened(
    case: Case, graphs: Graphs | None = None, read_back: int = 1, models: Speech | None = None
) -> FrameLoop:
    talker, predictor, _ = models or speech(case.width)
    memory = {"batch": len(case.seeds), "rows": 20, "frames": FRAMES}
    how = {"sampling": case.sampling, "ends": case.ends, "eos": IDS.eos}
    loop = FrameLoop(talker, predictor, **memory, **how, graphs=graphs)
    loop.read_back = read_back
    return loop


def begun(loop: FrameLoop, case: Case, wanted: int | None = None) -> FrameLoop:
    x_vector = torch.full((case.width,), X_VECTOR, dtype=torch.float64)
    embedded = [
        embed(prompt, loop.talker, loop.predictor, x_vector) for prompt in prompts()[: len(case.seeds)]
    ]
    loop.begin(embedded, case.streams(), wanted)
    loop.prefill()
    return loop


def written(loop: FrameLoop, case: Case, wanted: int | None = None) -> list[list[list[int]]]:
    """Frames of each item, from the first request of a loop or a later one."""
    for _ in begun(loop, case, wanted).run():
        pass
    codes, lengths = loop.written(), loop.lengths()
    return [item[:, :length].T.tolist() for item, length in zip(codes, lengths, strict=True)]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "block_of", lambda device: BLOCK)


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_by_hand(name: str):
    assert written(opened(CASES[name]), CASES[name]) == by_hand(CASES[name])


def test_cases_are_of_every_kind():
    lengths = [len(item) for item in by_hand(CASES["sampled, to the end"])]
    assert min(lengths) < max(lengths), "an item ends before another"
    assert [len(item) for item in by_hand(CASES["sampled, all frames"])] == [FRAMES] * 3
    assert by_hand(CASES["sampled, to the end"]) != by_hand(CASES["greedy, to the end"])


@pytest.mark.parametrize("name", CASES)
def test_blocks_recordings_and_requests_before_change_no_code(name: str, blocks: None):
    """Of a loop that has served another request; its second one records nothing."""
    case, recorder = CASES[name], Replaying()
    loop = opened(case, Graphs(recorder), read_back=4)
    other = Case(tuple(seed + 100 for seed in case.seeds), ends=case.ends, width=case.width)
    for _ in begun(loop, other).run():
        pass
    recorded = recorder.recorded
    assert written(loop, case) == by_hand(case)
    assert recorded >= 3
    if case.ends is False:
        assert recorder.recorded == recorded


def _no_advance(patch: pytest.MonkeyPatch) -> None:
    step = FrameLoop._step

    def stuck(self: FrameLoop, end: int) -> None:
        index = self._index.clone()
        step(self, end)
        self._index.copy_(index)

    patch.setattr(FrameLoop, "_step", stuck)


def _no_mask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(qwen3, "hide", lambda hidden, dtype: torch.zeros(hidden.shape, dtype=dtype))


def _no_penalty(patch: pytest.MonkeyPatch) -> None:
    pick = Tempered.pick
    patch.setattr(Tempered, "pick", lambda self, logits, uniform, seen=None: pick(self, logits, uniform))


def _a_request_leaves_marks(patch: pytest.MonkeyPatch) -> None:
    begin = FrameLoop.begin

    def marked(self: FrameLoop, *request: object) -> None:
        begin(self, *request)  # type: ignore[arg-type]
        self._seen.fill_(True)

    patch.setattr(FrameLoop, "begin", marked)


def _one_draw_for_all(patch: pytest.MonkeyPatch) -> None:
    begin = FrameLoop.begin

    def same(self: FrameLoop, *request: object) -> None:
        begin(self, *request)  # type: ignore[arg-type]
        self._draws[:] = self._draws[..., :1].clone()

    patch.setattr(FrameLoop, "begin", same)


DAMAGES = [_no_advance, _no_mask, _no_penalty, _a_request_leaves_marks, _one_draw_for_all]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_the_loop_is_noticed(damage: Callable, monkeypatch: pytest.MonkeyPatch):
    damage(monkeypatch)
    case = CASES["sampled, all frames"]
    assert written(opened(case), case) != by_hand(case)


def test_fewer_frames_are_the_first_of_more():
    """Draws are an item's, frame by frame."""
    case = CASES["sampled, all frames"]
    assert written(opened(case), case, 4) == [item[:4] for item in by_hand(case)]


def test_the_end_may_not_come_before_two_codes_are_there():
    case = Case((0,), sampled=False)
    loop = begun(opened(case), case)
    ended = []
    for index in range(3):
        loop._index.fill_(index)
        loop.logits.fill_(0.0)[:, IDS.eos] = 50.0
        loop._draw_first()
        ended.append(loop.ended())
    assert ended == [False, False, True]
    assert loop.lengths() == [2], "the frame that would follow is none"


@pytest.mark.parametrize("ends", [True, False])
def test_no_other_control_token_is_drawn(ends: bool):
    """Whatever its logit."""
    case = Case((0,), ends=ends)
    loop = begun(opened(case), case)
    for index in range(FRAMES):
        loop._index.fill_(index)
        loop.logits[:, :CODES] = -50.0
        loop.logits[:, CODES : IDS.eos] = 50.0
        loop.logits[:, IDS.eos + 1 :] = 50.0
        if ends:
            loop.logits[:, IDS.eos] = -90.0
        loop._draw_first()
        assert int(loop.codes[0, 0]) < CODES and not loop.ended()


@pytest.mark.parametrize("read_back", [1, 3, 8])
def test_an_end_is_seen_late_and_leaves_nothing(read_back: int):
    case = CASES["one item"]
    expected = by_hand(case)
    loop = opened(case, read_back=read_back)
    assert written(loop, case) == expected
    length = len(expected[0])
    assert 2 <= length < FRAMES, "the item ends by itself"
    blocks_of_frames = -(-(length + 1) // read_back) * read_back
    assert loop.counts().frames == min(blocks_of_frames - 1, FRAMES)


def test_stages_and_counts():
    case = CASES["sampled, all frames"]
    loop = opened(case)
    with record() as times:
        written(loop, case)
    assert list(times.stages()) == ["talker_prefill", "sampling", "code_predictor", "talker_decode", "other"]
    assert len(times.samples("talker_decode")) == FRAMES - 1, "the prompt predicts the first"
    assert len(times.samples("sampling")) == FRAMES * GROUPS
    assert len(times.samples("code_predictor")) == FRAMES * (GROUPS - 1)
    rows = sum(len(prompt.rows) for prompt in prompts())
    assert loop.counts() == (rows, FRAMES - 1, FRAMES * (GROUPS - 1), FRAMES)


def test_steps_are_recorded_in_a_stage_of_their_own(blocks: None):
    case = CASES["sampled, all frames"]
    loop = opened(case, Graphs(Replaying()))
    with record() as times:
        written(loop, case)
    assert not loop.sampling_apart and not loop.fallbacks
    longest = max(len(prompt.rows) for prompt in prompts())
    ends = {-(-(longest + n) // BLOCK) for n in range(1, FRAMES)}
    assert len(times.samples("compile")) == 2 + len(ends) > 3
    assert len(times.samples("code_predictor")) == len(times.samples("sampling")) == FRAMES


def test_where_recording_fails_steps_are_called_and_that_is_told_once(blocks: None):
    class Refusing(Replaying):
        def record(self, step: Callable[[], None]) -> Callable[[], None]:
            if self.recorded:
                raise torch.OutOfMemoryError("CUDA out of memory.\nTry to buy more.")
            return super().record(step)

    case = CASES["sampled, to the end"]
    loop = opened(case, Graphs(Refusing()))
    assert written(loop, case) == by_hand(case)
    assert [str(fallback) for fallback in loop.fallbacks] == [
        "talker_decode: not recorded (out of memory: device memory ran out); launched kernel by kernel"
    ]


def test_a_request_that_has_no_room_is_refused():
    case = Case((0,))
    with pytest.raises(ValueError, match="1 prompts of up to 10 rows and 99 frames in memory for 1, "):
        begun(opened(case), case, 99)


def test_the_last_of_so_many_tokens_makes_no_frame():
    assert [most_frames(tokens) for tokens in (1, 2, 8192)] == [0, 1, 8191]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_on_a_real_card(name: str, recorded: bool):
    case, device = CASES[name], torch.device("cuda")
    loop = opened(case, Graphs.on(device, recorded), models=build(case.width, device))
    assert written(loop, case) == by_hand(case)
    assert not loop.fallbacks
