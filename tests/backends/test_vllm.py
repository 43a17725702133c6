"""vLLM beside our own model: from the same weights the same tokens, whatever is asked of them."""

import os
import sys
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scenarios import CPU, GREEDY, LM, SAMPLED, SCENARIOS, SOURCE, Checkpoint, heard, our_own

from acestep.lm.backends import vllm_backend
from acestep.lm.backends.pt_backend import PT
from acestep.lm.backends.vllm_backend import BLOCK, LEAST_CACHE_TOKENS, VLLM
from acestep.lm.backends.vllm_decode import CodeRequest, Request, TextRequest, VLLMDecodeLoop
from acestep.lm.decode.selector import Guidance, TokenSelector
from acestep.text.tokenizer import FIRST_CODE, IM_END, LM_VOCAB
from acestep.weights.synthetic import Law, Synthetic
from harness.checkpoint import on_meta, parameter_shapes
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB, MemoryBudget
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling
from harness.random_weights import RandomWeights
from harness.spans import record

FULL = "ACESTEP_FULL_LM"

pytestmark = pytest.mark.filterwarnings("default")  # vLLM's own imports warn
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: make test-backends")


@pytest.fixture(scope="module")
def vllm() -> Iterator[VLLM]:
    backend = VLLM(SOURCE, LM, CPU, torch.float32)
    backend.load()
    yield backend
    backend.close()


class Plain:
    """What vLLM does, in a few lines around our own model: a token per row and step, without a cache."""

    def __init__(self, model: Qwen3):
        self.model = model

    def decode_loop(self, sampling: Sampling, seeds: list[int]) -> VLLMDecodeLoop:
        return VLLMDecodeLoop(self, TokenSelector(sampling, seeds, CPU))

    def read(self, prompts: list[list[int]]) -> list[SimpleNamespace]:
        return [SimpleNamespace(prompt_token_ids=prompt, num_cached_tokens=0) for prompt in prompts]

    def write(self, request: Request, prompts: list[list[int]], most: list[int]) -> list[SimpleNamespace]:
        texts = [list(prompt) for prompt in prompts]
        ends = [len(prompt) + new for prompt, new in zip(prompts, most, strict=True)]
        while rows := [r for r, ids in enumerate(texts) if len(ids) < ends[r] and ids[-1] != IM_END]:
            assert rows == request.rows
            hidden = torch.cat([self.model(torch.tensor([texts[row]]))[:, -1] for row in rows])
            tokens = request.next(hidden @ self.model.embed_tokens.weight.T)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                texts[row].append(token)
        return self.read(prompts)


def test_writing_token_by_token_writes_the_same(pt: PT):
    expected, _ = heard(pt, SCENARIOS["several prompts"], SAMPLED)
    assert heard(Plain(pt.model), SCENARIOS["several prompts"], SAMPLED)[0] == expected


def test_a_text_is_a_row_and_guided_codes_are_two(pt: PT, monkeypatch: pytest.MonkeyPatch):
    written, write = [], Plain.write
    monkeypatch.setattr(Plain, "write", lambda self, *call: (written.append(call), write(self, *call))[1])
    heard(Plain(pt.model), SCENARIOS["two items"], SAMPLED)
    (text_turn, texts, _), (code_turn, codes, most) = written
    assert isinstance(text_turn, TextRequest) and isinstance(code_turn, CodeRequest)
    assert len(texts) == 2 and len(codes) == len(most) == 4 and codes[1] == codes[3] != codes[0]


@needs_vllm
@pytest.mark.parametrize("temperature", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tokens_are_those_of_our_own_model(scenario: str, temperature: float, vllm: VLLM, pt: PT):
    expected, work = heard(pt, SCENARIOS[scenario], temperature)
    tokens, counts = heard(vllm, SCENARIOS[scenario], temperature)
    assert tokens == expected and all(expected)
    for name in ("lm_prompt_tokens", "lm_decode_tokens", "audio_codes"):
        assert getattr(counts, name) == getattr(work, name)


@needs_vllm
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_matrix_off_by_half_is_noticed(scenario: str, vllm: VLLM):
    off = our_own(Checkpoint(lambda name, w: w * 1.5 if name == "layers.1.mlp.down_proj.weight" else w))
    assert heard(off, SCENARIOS[scenario], GREEDY)[0] != heard(vllm, SCENARIOS[scenario], GREEDY)[0]


@needs_vllm
def test_vllm_said_what_was_chosen(vllm: VLLM, monkeypatch: pytest.MonkeyPatch):
    written = []
    write = vllm.write

    def listen(request, *args):
        outputs = write(request, *args)
        written.append((request, [list(d.outputs[0].token_ids) for d in outputs]))
        return outputs

    monkeypatch.setattr(vllm, "write", listen)
    (*texts, a, b, c), _ = heard(vllm, SCENARIOS["several prompts"], SAMPLED)
    (text_turn, said), (code_turn, coded) = written
    assert isinstance(text_turn, TextRequest) and isinstance(code_turn, CodeRequest)
    assert len(said) == len(texts) and coded[0::2] == coded[1::2], "twins say the same, and texts have none"
    for text, row in zip(texts, said, strict=True):
        *fed, end = row
        assert end == IM_END and fed == text[: len(fed)] and len(fed) > 10
    longest_first = [[FIRST_CODE + code for code in codes] for codes in (b, a, c)]
    assert coded[::2] == longest_first


@needs_vllm
def test_an_item_says_what_it_says_alone(vllm: VLLM):
    scenario = SCENARIOS["several prompts"]
    together, _ = heard(vllm, scenario, SAMPLED)
    for item in range(3):
        alone, _ = heard(vllm, scenario, SAMPLED, items=(item,))
        assert alone == together[item::3]


@needs_vllm
def test_what_one_request_has_read_another_reads_again(vllm: VLLM):
    (_, first), (_, again) = (heard(vllm, SCENARIOS["guided codes"], GREEDY) for _ in range(2))
    assert first == again and first.lm_prefill_tokens < first.lm_prompt_tokens + 4 * BLOCK


@needs_vllm
def test_choosing_is_timed_apart_from_the_model(vllm: VLLM):
    with record() as times:
        heard(vllm, SCENARIOS["guided codes"], SAMPLED)
    parts = {"forward", "constraint", "cfg", "sampling"}
    assert set(times.details()) == {f"lm_decode/{part}" for part in parts}
    assert times.seconds("lm_prefill") > 0
    assert sum(times.details().values()) <= times.seconds("lm_decode")


@needs_vllm
def test_a_request_that_fails_leaves_nothing_behind(vllm: VLLM, monkeypatch: pytest.MonkeyPatch):
    expected = heard(vllm, SCENARIOS["two items"], GREEDY)
    with monkeypatch.context() as broken:
        broken.setattr(TextRequest, "choose", lambda self, logits: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            heard(vllm, SCENARIOS["two items"], GREEDY)
    assert heard(vllm, SCENARIOS["two items"], GREEDY) == expected


@needs_vllm
def test_a_missing_twin_is_an_error(vllm: VLLM, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CodeRequest, "rows", property(lambda request: [0, 1, 2]))
    with pytest.raises(RuntimeError, match=r"the rows \[0, 1\] in one step, and not \[0, 1, 2\]"):
        heard(vllm, SCENARIOS["guided codes"], GREEDY)


@needs_vllm
def test_what_does_not_fit_is_refused_before_it_starts(vllm: VLLM):
    writer = vllm.decode_loop(Sampling(0.0), range(9))
    with pytest.raises(UsageError, match=r"18 rows of 3002 tokens do not fit.* 32768 in all.*use pt"):
        writer.codes([[1, 2]] * 9, [3000] * 9, Guidance(2.0, [3, 4]))
    with pytest.raises(UsageError, match="8192 per row"):
        vllm.decode_loop(Sampling(0.0), [1]).codes([[1] * 8000], [193])


@needs_vllm
def test_facts_are_read_back(vllm: VLLM, pt: PT):
    facts, expected = vllm.facts(), pt.facts()
    assert facts["version"].startswith("vllm ") and facts["cache_tokens"] == 32_768
    assert (facts["device"], facts["dtype"]) == (expected["device"], expected["dtype"])
    padding_bytes = -LM_VOCAB % 64 * 64 * 4  # vLLM's vocabulary is a multiple of 64; width 64, fp32
    assert facts["weight_bytes"] == expected["weight_bytes"] + padding_bytes


@needs_vllm
def test_a_closed_backend_is_gone_and_loads_again(vllm: VLLM):
    expected = heard(vllm, SCENARIOS["create"], GREEDY)
    threads = torch.set_num_threads
    [model] = vllm.llm.apply_model(weakref.ref)
    vllm.close()
    assert model() is None, "closed, and its weights are still held"
    with pytest.raises(RuntimeError, match="load"):
        vllm.decode_loop(Sampling(0.0), [1])
    vllm.load()
    assert heard(vllm, SCENARIOS["create"], GREEDY) == expected
    assert torch.set_num_threads is threads, "vLLM leaves one that does nothing"


@needs_vllm
def test_a_model_vllm_has_no_kernels_for(vllm: VLLM):
    class Narrow(Synthetic):
        def config(self, folder: str) -> dict[str, Any]:
            return super().config(folder) | {"head_dim": 16}

        def weights(self, folder: str) -> RandomWeights:
            config = parse_config(self.config(folder), Qwen3Config, folder)
            shapes = parameter_shapes(on_meta(lambda: Qwen3(config)))
            return RandomWeights(folder, shapes, torch.float32, 0, Law(shapes))

    vllm.close()
    narrow = VLLM(Narrow("synthetic-tiny"), LM, CPU, torch.float32)
    with pytest.raises(MissingPrerequisite, match=r"cannot run synthetic-tiny.*head_dim=16.*use pt"):
        narrow.load()
    vllm.load()


@needs_vllm
@pytest.mark.skipif(FULL not in os.environ, reason=f"minutes and 8 GiB: {FULL}=1")
@pytest.mark.timeout(1800)
def test_the_published_shape(vllm: VLLM):
    vllm.close()
    source = Synthetic("synthetic-full")
    full = VLLM(source, LM, CPU, torch.float32)
    full.load()
    tokens = [heard(full, SCENARIOS[name], GREEDY)[0] for name in ("plan", "guided codes", "create")]
    full.close()
    pt = our_own(source)
    assert tokens == [heard(pt, SCENARIOS[name], GREEDY)[0] for name in ("plan", "guided codes", "create")]


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "vllm.platforms", None)
    with pytest.raises(MissingPrerequisite, match=r"\[vllm\].*use pt"):
        VLLM(SOURCE, LM, CPU, torch.float32).load()


@pytest.mark.parametrize(("free_gib", "tokens"), [(64, 32_768), (4.5, 13_088), (2.0, None)])
def test_the_cache_takes_half_of_what_weights_leave(free_gib: float, tokens: int | None, monkeypatch):
    budget = MemoryBudget("cpu")
    monkeypatch.setattr(MemoryBudget, "free_bytes", lambda self: int(free_gib * GIB))
    weight_bytes, token_bytes = int(0.7 * GIB), 2 * 28 * 8 * 128 * 2
    if tokens is None:
        with pytest.raises(MissingPrerequisite, match=r"needs 2\.6 GiB, 2\.0 are free"):
            vllm_backend._cache_tokens(budget, weight_bytes, token_bytes)
    else:
        assert vllm_backend._cache_tokens(budget, weight_bytes, token_bytes) == tokens >= LEAST_CACHE_TOKENS
