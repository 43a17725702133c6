"""Plans: every item as if alone, exactly as long as it should be, and no more work than that."""

from dataclasses import replace

import pytest
import torch
from tiny_lm import tiny_planner
from torch.utils._python_dispatch import TorchDispatchMode

from acestep.lm import planner
from acestep.lm.decode.kv_cache import KVState, Window
from acestep.lm.decode.selector import Guidance
from acestep.lm.grammar import constraint
from acestep.request import GenerationParams
from acestep.result import Counts
from acestep.text.metadata import Metadata
from acestep.text.prompts import phase2_prompt, phase2_unconditional
from acestep.text.tokenizer import FIRST_CODE, IM_END
from harness import graphs
from harness.errors import BenchError
from harness.nn.sampling import Sampling

PLANNER = tiny_planner()
OPEN = GenerationParams(
    caption="slow dub techno", lyrics="[Verse]\nLa la", duration=None, lm_temperature=2.0, lm_top_p=0.99
)
SONG = Metadata(bpm=100, duration=2, keyscale="A minor", timesignature="4")


@pytest.fixture(autouse=True)
def _small_and_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constraint, "CAPTION_TOKENS", 2)
    with torch.inference_mode():
        yield


def plan(
    params=OPEN,
    user=SONG,
    seeds=(1,),
    *,
    duration_s=None,
    metadata=False,
    codes=True,
    longest=15,
    on_code=None,
):
    return PLANNER.plan(
        params,
        user,
        seeds,
        length_s=lambda planned: duration_s or planned or 30,
        max_duration_s=longest,
        metadata=metadata,
        codes=codes,
        on_code=on_code,
    )


VARIANTS = {
    "guided": OPEN,
    "not guided, whole distribution": replace(OPEN, lm_cfg_scale=1.0, lm_top_p=1.0),
    "negative prompt": replace(OPEN, lm_negative_prompt="noise", use_cot_caption=True, use_cot_language=True),
    "penalised, top k": replace(OPEN, use_cot_caption=True, lm_repetition_penalty=1.3, lm_top_k=50),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_item_is_planned_as_if_alone(variant: str):
    seeds, params = (5, 3), VARIANTS[variant]
    together = plan(params, Metadata(), seeds, metadata=True)
    for item, seed in enumerate(seeds):
        alone = plan(params, Metadata(), (seed,), metadata=True)
        assert alone.metadata == together.metadata[item : item + 1]
        assert torch.equal(alone.codes[0], together.codes[item])
    assert together.metadata[0] != together.metadata[1], "seeds differ, and so do the thoughts"
    assert [len(codes) for codes in together.codes] == [5 * m.duration for m in together.metadata]
    assert len({len(codes) for codes in together.codes}) > 1, "the case must have items of unequal length"


def test_equal_seeds_give_equal_items():
    twins = plan(OPEN, replace(SONG, bpm=None), (6, 6), metadata=True)
    assert twins.metadata[0] == twins.metadata[1] and torch.equal(*twins.codes)


def test_a_thought_keeps_what_is_given_and_decides_the_rest():
    user = Metadata(duration=12, keyscale="A minor")
    params = replace(OPEN, use_cot_caption=True, use_cot_language=True)
    for metadata in plan(params, user, (1, 2), metadata=True, codes=False).metadata:
        assert (metadata.duration, metadata.keyscale) == (12, "A minor")
        assert 30 <= metadata.bpm <= 300 and metadata.timesignature in "2346"
        assert metadata.language and metadata.caption and metadata.genres is None


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_thought_of_logits_that_are_no_numbers_is_a_failure(number: float, monkeypatch: pytest.MonkeyPatch):
    """The first token is drawn of them, whatever is masked."""
    params = replace(OPEN, use_cot_caption=True, lm_top_p=1.0)
    assert plan(params, Metadata(), metadata=True, codes=False).metadata[0].caption  # the control
    head = KVState.head
    monkeypatch.setattr(KVState, "head", lambda self, rows: head(self, rows) * number)
    with pytest.raises(BenchError, match=r"lm: token 0 .* is not allowed here; are the logits NaN or inf"):
        plan(params, Metadata(), metadata=True, codes=False)


@pytest.mark.parametrize(
    ("user", "duration_s", "expected"),
    [(Metadata(), None, 150), (Metadata(), 7.4, 37), (Metadata(duration=7), 7.4, 37), (SONG, None, 10)],
)
def test_exactly_five_codes_per_second(user: Metadata, duration_s: float | None, expected: int):
    reports: list[int] = []
    planned = plan(OPEN, user, (1, 2), duration_s=duration_s, on_code=reports.append)
    assert planned.metadata == (user, user) and reports == [*range(1, expected + 1)]
    for codes in planned.codes:
        assert codes.shape == (expected,) and codes.dtype == torch.int64
        assert codes.min() >= 0 and codes.max() < 64_000


def test_nothing_asked_nothing_done():
    planned = plan(codes=False)
    assert planned.metadata == (SONG,) and planned.codes is None and planned.counts == Counts()


def test_the_work_is_counted_and_a_finished_item_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    fed = []
    step = Window.step
    monkeypatch.setattr(Window, "step", lambda self, tokens: (fed.append(len(tokens)), step(self, tokens)))
    planned = plan(OPEN, Metadata(), (3, 4, 5), metadata=True)
    assert sum(fed) == 2 * sum(len(codes) - 1 for codes in planned.codes)
    assert len({len(codes) for codes in planned.codes}) > 1, "one must end before another"
    longest = max(map(len, planned.codes))
    assert planned.counts.audio_codes == longest
    thinking = plan(OPEN, Metadata(), (3, 4, 5), metadata=True, codes=False).counts
    assert planned.counts.lm_decode_steps == thinking.lm_decode_steps + longest - 1
    assert planned.counts.lm_decode_tokens == thinking.lm_decode_tokens + sum(map(len, planned.codes))
    assert thinking.lm_decode_steps < 12 < thinking.lm_prefill_tokens < planned.counts.lm_prefill_tokens


class Full:
    """A recorder without memory."""

    def __init__(self, device: torch.device):
        pass

    def record(self, step):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_what_could_not_be_recorded_is_told_and_is_the_same_plan(monkeypatch: pytest.MonkeyPatch):
    expected = plan()
    monkeypatch.setitem(graphs.recorders, "cpu", Full)
    monkeypatch.setattr(PLANNER, "backend", replace(PLANNER.backend, graphs=True))
    planned = plan()
    assert [str(fallback) for fallback in planned.fallbacks] == [
        "lm_decode: not recorded (out of memory: device memory ran out); launched kernel by kernel"
    ]
    assert torch.equal(planned.codes[0], expected.codes[0]) and expected.fallbacks == ()


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[KVState]:
    """Every KV state that is opened, in order."""
    opened, build = [], KVState.__init__
    monkeypatch.setattr(KVState, "__init__", lambda self, *a: (opened.append(self), build(self, *a))[1])
    return opened


def chat(user: str, *assistant: int | str) -> list[int]:
    """A prompt of planning, token by token, with the assistant's turn open."""
    system = "system\n# Instruction\nGenerate audio semantic tokens based on the given conditions:\n\n"
    start, end = 151_644, 151_645  # <|im_start|>, <|im_end|>
    turns = (start, system, end, "\n", start, f"user\n{user}", end, "\n", start, "assistant\n", *assistant)
    return [id_ for part in turns for id_ in ([part] if isinstance(part, int) else TOKENS(part))]


TOKENS = PLANNER.tokenizer.encode
THINK, THINK_END = 151_667, 151_668
USER = "# Caption\nslow dub techno\n\n# Lyric\n[Verse]\nLa la\n"
THOUGHT = "\nbpm: 100\nduration: 2\nkeyscale: A minor\ntimesignature: 4\n"


def misread(state: KVState, scale: float, negative: str) -> list[str]:
    """Which rows of phase 2 are not what the models were trained on."""
    expected = {"conditional": chat(USER, THINK, THOUGHT, THINK_END, "\n\n")}
    if scale > 1:
        expected["unconditional"] = chat(negative, THINK, "\n\n", THINK_END, "\n\n")
    assert len(state.prompts) == len(expected)
    return [name for row, (name, ids) in zip(state.prompts, expected.items(), strict=True) if row != ids]


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("negative", ["NO USER INPUT", "noise"])
def test_phase_2_reads_the_prompts_of_the_training(scale: float, negative: str, states: list[KVState]):
    plan(replace(OPEN, lm_cfg_scale=scale, lm_negative_prompt=negative))
    [state] = states
    assert misread(state, scale, negative) == []


CLOSED = [IM_END, "\n"]
OTHER_LAYOUTS = {
    "conditional": ("phase2_prompt", lambda *request: [*phase2_prompt(*request), *CLOSED]),
    "unconditional": ("phase2_unconditional", lambda *negative: [*phase2_unconditional(*negative), *CLOSED]),
    "caption kept": ("phase2_unconditional", lambda *_: phase2_prompt(OPEN.caption, OPEN.lyrics, "")),
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_a_closed_turn_or_a_caption_that_is_kept_is_noticed(layout: str, states, monkeypatch):
    monkeypatch.setattr(planner, *OTHER_LAYOUTS[layout])
    plan(OPEN)
    wrong = "unconditional" if layout == "caption kept" else layout
    assert misread(states[0], OPEN.lm_cfg_scale, "NO USER INPUT") == [wrong]


def test_a_thought_is_one_row_per_item_whatever_guides_the_codes(states: list[KVState], monkeypatch):
    fed, extend = [], KVState.extend
    monkeypatch.setattr(KVState, "extend", lambda self, runs: (fed.append(runs), extend(self, runs))[1])
    seeds, prompt = (3, 4, 5), chat(USER)
    thinking = {}
    for scale in (1.0, 2.0, 20.0):
        fed.clear()
        params = replace(OPEN, lm_cfg_scale=scale, lm_negative_prompt="noise" if scale > 1 else "")
        thought = plan(params, Metadata(), seeds, metadata=True, codes=False)
        assert states[-1].prompts == [prompt] * 3 and {len(runs) for runs in fed} == {3}
        counts = thought.counts
        assert counts.lm_prompt_tokens == 3 * len(prompt)
        tokens = sum(len(run) for runs in fed if max(map(len, runs)) > 1 for run in runs)
        assert counts.lm_prefill_tokens == len(prompt) + tokens, "items read their prompt together"
        assert counts.lm_decode_steps == sum(max(map(len, runs)) == 1 for runs in fed)
        thinking[scale] = thought
    assert thinking[1.0] == thinking[2.0] == thinking[20.0]


def test_guided_codes_are_two_rows_per_item(states: list[KVState]):
    """The control of the test above: a twin is seen where there is one."""
    for scale, rows in ((1.0, 3), (2.0, 6)):
        plan(replace(OPEN, lm_cfg_scale=scale), replace(SONG, bpm=None), (3, 4, 5), metadata=True)
        assert [len(state.prompts) for state in states[-2:]] == [3, rows]


def by_hand(params: GenerationParams, count: int) -> list[int]:
    """Phase 2 without cache, batch, or limits on the head: the likeliest code of the guided logits."""
    encode, model = PLANNER.tokenizer.encode_prompt, PLANNER.backend.model
    rows = [
        encode(phase2_prompt(params.caption, params.lyrics, SONG.to_yaml())),
        encode(phase2_unconditional(params.lm_negative_prompt)),
    ]
    said: list[int] = []
    for _ in range(count):
        hidden = torch.cat([model(torch.tensor([row + said]))[:, -1] for row in rows])
        conditional, unconditional = hidden @ model.embed_tokens.weight.T
        logits = unconditional + params.lm_cfg_scale * (conditional - unconditional)
        said.append(FIRST_CODE + int(logits[FIRST_CODE : FIRST_CODE + 64_000].argmax()))
    return [code - FIRST_CODE for code in said]


@pytest.mark.parametrize("negative", ["NO USER INPUT", "noise"])
def test_greedy_codes_are_the_uncached_models(negative: str):
    params = replace(OPEN, lm_temperature=0.0, lm_negative_prompt=negative, lm_cfg_scale=6.0)
    first, second = plan(params, seeds=(1, 2)).codes
    assert torch.equal(first, second), "at temperature 0 no seed matters"
    assert first.tolist() == by_hand(params, 10)
    assert first.tolist() != by_hand(replace(params, lm_cfg_scale=3.0), 10)


def test_a_repetition_penalty_is_each_items_own():
    greedy = replace(OPEN, lm_temperature=0.0, lm_cfg_scale=1.0)
    [repeated] = plan(greedy).codes
    varied = plan(replace(greedy, lm_repetition_penalty=5.0), seeds=(1, 2)).codes
    assert len(set(repeated.tolist())) < 10 == len(set(varied[0].tolist()))
    assert torch.equal(*varied)


class ReadBack(TorchDispatchMode):
    """Counts values that leave the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        reading = (aten.item, aten.is_nonzero, aten._local_scalar_dense, aten.nonzero)
        self.count += func.overloadpacket in reading
        return func(*args, **(kwargs or {}))


def test_codes_are_decoded_without_reading_back_but_for_whether_they_are_of_numbers():
    """Once, however many codes there are."""
    sampling = Sampling(0.85, top_k=100, top_p=0.9, repetition_penalty=1.1)
    for counts in ([4, 6], [40, 60]):
        writer = PLANNER.backend.decode_loop(sampling, (1, 2))
        with ReadBack() as watched:
            first, _ = writer.codes([[1, 2]] * 2, counts, Guidance(2.0, [1]))
        assert watched.count == 1
    with ReadBack() as watched:
        int(first[0])
    assert watched.count == 1


def test_long_texts_are_cut_before_the_model_sees_them():
    hostile = replace(
        OPEN, caption="8" * 4096, lyrics="9" * 16_384, lm_negative_prompt="7" * 4096, use_cot_caption=True
    )
    planned = plan(hostile, replace(SONG, bpm=None), duration_s=1.0, metadata=True)
    least = 2 * (2048 + 512) + 512  # both phases, and what the second leads away from
    assert least < planned.counts.lm_prompt_tokens < least + 3 * 120
    cut = replace(OPEN, caption="8" * 512, lyrics="9" * 2048, lm_negative_prompt="7" * 512)
    same = plan(replace(cut, use_cot_caption=True), replace(SONG, bpm=None), duration_s=1.0, metadata=True)
    assert same.metadata == planned.metadata and torch.equal(same.codes[0], planned.codes[0])


def test_an_instrumental_has_no_lyrics_to_plan_for():
    named = plan(replace(OPEN, lyrics="[Instrumental]"))
    flagged = plan(replace(OPEN, instrumental=True))
    assert torch.equal(named.codes[0], flagged.codes[0])
    assert not torch.equal(named.codes[0], plan(OPEN).codes[0])
