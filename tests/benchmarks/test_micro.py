"""Functions by themselves: the engine's own, on arguments that are there before the clock starts."""

import itertools
import json
import math
import re
from contextlib import contextmanager

import pytest
import torch

from acestep import engine, resolver
from acestep.audio import writing
from acestep.lm import planner
from acestep.lm.decode import loop, selector
from acestep.lm.grammar.allowed import Choice, Forced, Free
from acestep.models import ace_step, codes
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import LM_VOCAB, TEXT_VOCAB
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer
from benchmarks import _matrix, micro
from subjects.qwen3_tts import utterance

CPU = torch.device("cpu")
# Each by a name under which the engine finds it.
OF_THE_ENGINE = {
    "pick": selector.Sampling.pick,
    "allowed": planner.MetadataConstraint.allowed,
    "build": selector.allowed_mask.__wrapped__,
    "step": loop.CachedDecodeLoop.decoder_type.next,
    "join": engine.audio_codes.join,
    "parse": resolver.audio_codes.parse,
    "decode": codes.FSQ.decode,
    "quantize": codes.FSQ.indices,
    "detokenize": ace_step.Detokenizer.forward,
    "tokenize": ace_step.AudioTokenizer.forward,
    "resample": writing.resampled,
    "mel": utterance.log_mel,
}


def cells(kind: str) -> list[_matrix.Cell]:
    return [cell for cell in _matrix.micro_cells() if cell.kind == kind]


@pytest.fixture
def calls(here):
    """A function that makes the calls of a cell."""
    return lambda cell: here.calls.KINDS[cell.kind](cell, CPU)


def test_what_is_timed_is_what_the_engine_calls_and_is_read(calls):
    least = [cells(kind)[0] for kind in _matrix.MICRO if kind not in ("mask", "span")] + cells("mask")
    timed = [one for cell in least for one in calls(cell).items()]
    assert all(call.function is OF_THE_ENGINE[name] for name, call in timed)
    assert {name for name, _ in timed} == OF_THE_ENGINE.keys()
    suites = [cls for cls in vars(micro).values() if isinstance(cls, type) and issubclass(cls, micro._Micro)]
    read = {name for cls in suites for name in dir(cls) if name.startswith("track_")}
    assert read == {f"track_{name}" for name in (*OF_THE_ENGINE, "span")}


@pytest.mark.parametrize("reader", ["nobody", "recording"])
def test_the_span_is_the_engines_and_is_read_where_it_should_be(calls, reader: str):
    (call,) = calls(_matrix.cell("span", reader=reader)).values()
    assert call.arguments()[0] is loop.span
    with call.around() as times:
        call.function(*call.arguments())
    assert (times is not None and len(times.samples("micro"))) == (reader == "recording")


def test_sizes_are_those_of_the_engine():
    assert (_matrix.TEXT_TOKENS, _matrix.CODE_TOKENS, _matrix.LM_TOKENS) == (TEXT_VOCAB, CODES, LM_VOCAB)


def test_inputs_are_the_same_each_time(calls):
    cell = _matrix.cell("sampling", sampler="whole", vocabulary=1000, rows=2, logits="peaked")
    first, second = (calls(cell)["pick"].arguments() for _ in range(2))
    assert first[0] == second[0] and all(map(torch.equal, first[1:], second[1:]))
    _, scores, _, seen = first
    assert scores.shape == (2, 1000) and seen.sum(-1).tolist() == [100, 100]
    assert not torch.equal(scores[0], scores[1])


def test_peaked_logits_have_a_nucleus_and_flat_ones_have_none(calls):
    shares = {}
    for shape in ("peaked", "flat"):
        cell = _matrix.cell("sampling", sampler="greedy", vocabulary=CODES, rows=1, logits=shape)
        likeliest = calls(cell)["pick"].arguments()[1].softmax(-1).sort(descending=True).values[0]
        shares[shape] = int((likeliest.cumsum(-1) < 0.9).sum()) / CODES
    assert shares["peaked"] < 0.001 and shares["flat"] > 0.5


@pytest.mark.parametrize("state", [state for state in _matrix.MICRO["mask"]["state"] if state != "open"])
def test_a_state_is_where_its_name_says(here, calls, state: str):
    tokenizer = synthetic_tokenizer("lm")
    text = "".join(map(tokenizer.token_text, here.calls.text_before(state)))
    ends = {"forced": r"", "caption-end": r".*\ncaption:[^\n]+\n", "lyrics": r".*</think>.*"}
    assert re.fullmatch(ends.get(state, rf".*\n{state}:[ ]?"), text, re.DOTALL)
    by_name = calls(_matrix.cell("mask", state=state, vocabulary=TEXT_VOCAB))
    allowed = by_name["allowed"].function(*by_name["allowed"].arguments())
    kind = {"forced": Forced, "caption": Free, "genres": Free, "lyrics": Free}.get(state, Choice)
    assert type(allowed) is kind and ("build" in by_name) == (kind is not Free)
    (run,) = by_name["step"].function(*by_name["step"].arguments())
    assert run and (kind is Free or run[0] in allowed.ids)


def test_the_grammar_has_one_vocabulary(here, calls):
    with pytest.raises(here.commit.Unsupported, match="the grammar is of 151669 tokens"):
        calls(_matrix.cell("mask", state="bpm", vocabulary=1000))


def test_codes_come_back(calls):
    by_name = calls(_matrix.cell("codes", codes_s=10))
    numbers, text = (by_name[name].arguments()[0] for name in ("join", "parse"))
    assert by_name["parse"].function(text) == tuple(numbers) and by_name["join"].function(numbers) == text
    shapes = {"decode": (1, 50), "quantize": (1, 50), "detokenize": (1, 250, 64), "tokenize": (1, 50)}
    for name, shape in shapes.items():
        assert by_name[name].function(*by_name[name].arguments()).shape[: len(shape)] == shape


@pytest.fixture
def clock(here, monkeypatch):
    """A clock on which a call takes what the next of `calls_s` says."""
    clock = here.micro.Clock(CPU)
    clock.now_s, clock.calls_s = 0.0, itertools.repeat(1e-4)
    clock._now = lambda: clock.now_s

    def work():
        clock.now_s += next(clock.calls_s)

    clock.work = here.calls.Call(work, lambda: ())
    return clock


def test_nothing_is_set_up_while_the_clock_runs(here, clock):
    log = []

    def arguments():
        clock.now_s += 5.0  # which nobody is to see
        log.append("made")
        return ()

    @contextmanager
    def around():
        clock.now_s += 7.0
        yield

    call = here.calls.Call(lambda: log.append("called") or clock.work.function(), arguments, around)
    assert clock.seconds(call, 3) == pytest.approx(3e-4)
    assert log == ["made"] * 3 + ["called"] * 3


@pytest.mark.parametrize("call_s", [1e-7, 1e-5, 3e-4, 0.02, 1.0])
def test_a_block_is_long_enough_for_the_clock_and_no_longer(clock, call_s: float):
    clock.calls_s = itertools.repeat(call_s)
    count = clock.count(clock.work)
    assert count * call_s >= 0.001 and (count == 1 or count * call_s < 0.00201)
    assert math.log2(count).is_integer()


def test_a_first_call_that_is_slow_does_not_shorten_a_block(clock):
    clock.calls_s = itertools.chain([0.5], itertools.repeat(1e-4))
    assert clock.count(clock.work) == 16


def test_the_fastest_block_counts_and_a_long_call_has_few(here, clock):
    clock.calls_s = itertools.cycle([0.002, 0.0015, 0.004])
    assert clock.call_us(clock.work, 1) == pytest.approx(1500)
    clock.calls_s, before_s = itertools.repeat(1.0), clock.now_s
    assert clock.call_us(clock.work, 1) == pytest.approx(1e6)
    assert clock.now_s - before_s == pytest.approx(here.micro.FEWEST_BLOCKS)


def test_the_time_is_the_process_s_with_one_thread_and_is_read_by_the_classes(here, monkeypatch):
    wanted = [_matrix.cell("span", reader="nobody"), _matrix.cell("mask", state="open", vocabulary=1000)]
    monkeypatch.setenv(_matrix.SELECTED, "\n".join(cell.name for cell in wanted))
    threads = torch.get_num_threads()
    try:
        facts, planned, measure = here.micro.micro()
        records = {cell.name: {"status": "ok", "cell": cell.name} | measure(cell) for cell in planned}
    finally:
        torch.set_num_threads(threads)
    assert sorted(cell.name for cell in planned) == sorted(cell.name for cell in wanted)
    assert facts["environment"] | {"source": ""} == {
        "source": "", "device": "cpu", "clock": "process", "threads": 1
    }  # fmt: skip
    records = json.loads(json.dumps({"header": {"status": "ok", "source": "synthetic-tiny"}} | records))
    for suite, params, method in (
        (micro.TimeSpan(), ("nobody",), "track_span"),
        (micro.TimeTokenMask(), ("open", 1000), "track_step"),
    ):
        suite.setup(records, *params)
        samples = getattr(suite, method)(records, *params)["samples"]
        assert len(samples) == facts["repeats"] and min(samples) > 0
    assert math.isnan(suite.track_build(records, "open", 1000))  # of what is there from the beginning


def test_a_commit_without_a_function_is_not_applicable(here, calls, monkeypatch):
    monkeypatch.delattr(writing, "resampled")
    with pytest.raises(
        here.commit.Unsupported, match=r"this commit has no acestep\.audio\.writing\.resampled"
    ):
        calls(cells("resample")[0])


def test_one_axis_varies_and_those_that_are_named_with_it(monkeypatch):
    monkeypatch.delenv(_matrix.FILTER, raising=False)
    for kind, axes in _matrix.MICRO.items():
        first = {axis: values[0] for axis, values in axes.items()}
        varied = [[axis for axis in axes if cell[axis] != first[axis]] for cell in cells(kind)]
        assert varied.count([]) == 1 and max(map(len, varied)) <= 1
        values = sum(len(_matrix.MICRO_UNLESS_NAMED.get(axis, values)) - 1 for axis, values in axes.items())
        assert len(varied) == 1 + values
    monkeypatch.setenv(_matrix.FILTER, "vocabulary=1000 rows=1,8 codes_s=600")
    sizes = [(c["sampler"], c["vocabulary"], c["rows"], c["logits"]) for c in cells("sampling")]
    others = len(_matrix.MICRO["sampling"]["sampler"]) + 1
    assert len(sizes) == 2 * others and {size[1:3] for size in sizes} == {(1000, 1), (1000, 8)}
    assert [cell["codes_s"] for cell in cells("codes")] == [600]
