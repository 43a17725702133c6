"""The language model in vLLM: its paged cache and its kernels, with our grammar, guidance and sampling.

A request is rows of one vLLM batch, two per item where codes are guided. A logits processor chooses the
tokens (`acestep.lm.backends.vllm_hooks`), so what is said is what the other backends say. vLLM decodes one
token per step and row, forced ones too, and multiplies the whole head; in return a step costs little beside
the weights.

vLLM runs inside this process. The memory for keys and values is taken when it loads, and kept.

    pip install '.[vllm]'
    python profile_inference.py --lm-backend vllm
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from acestep.lm.backends.vllm_decode import Request, VLLMDecodeLoop
from acestep.lm.decode.selector import TokenSelector
from acestep.request import MAX_BATCH
from acestep.weights.checkpoint import Source
from harness.checkpoint import Weights, check_shapes, on_meta, parameter_shapes
from harness.errors import MissingPrerequisite, UsageError
from harness.memory import GIB, MemoryBudget
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling
from harness.oom import classify
from harness.scratch import scratch_folder

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams  # pyright: ignore[reportMissingImports]

CONTEXT = 8192  # tokens of a row: the longest prompt and the longest answer fit
BLOCK = 32  # tokens of a block of the cache; vLLM's CPU kernels take multiples of it
MOST_CACHE_TOKENS, LEAST_CACHE_TOKENS = 4 * CONTEXT, 4096
WORK_BYTES = GIB  # activations of a pass over CONTEXT tokens
# What vLLM reads when it is imported or loads. How much it logs is the user's, if they say so.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process: the processor is given our objects
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other runner has other logits processors
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the threads are this process's
    "VLLM_NO_USAGE_STATS": "1",
}
LOGGING = ("VLLM_LOGGING_LEVEL", "CRITICAL")  # what fails is raised


class VLLM:
    """The language model `folder` of `source` in `dtype` on `device`, a CPU or the first CUDA device.

    `graphs`: whether vLLM compiles and records its steps, which it does together; without, they run eager.
    """

    name: ClassVar[str] = "vllm"

    def __init__(
        self, source: Source, folder: str, device: torch.device, dtype: torch.dtype, graphs: bool = False
    ):
        self.source = source
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self.graphs = graphs
        self.cache_tokens = 0  # of all rows together
        self._llm: LLM | None = None
        self._facts: dict[str, Any] = {}  # of the model as it was loaded
        self._requests: list[Request] = []  # at most one: what is being written

    def load(self) -> None:
        """Bring the weights into memory, and every kernel to life with a first token.

        Raises CheckpointError, or MissingPrerequisite where vLLM is not installed, has no kernels for the
        device or the model, or has no room.
        """
        if self._llm is not None:
            return
        where = f"{self.source.name}/{self.folder}/config.json"
        config = parse_config(self.source.config(self.folder), Qwen3Config, where)
        weights = self.source.weights(self.folder)
        check_shapes(parameter_shapes(on_meta(lambda: Qwen3(config))), weights)
        _check_vllm(self.device)
        token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        token_bytes *= self.dtype.itemsize
        weight_bytes = self.dtype.itemsize * sum(map(prod, weights.shapes().values()))
        self.cache_tokens = _cache_tokens(MemoryBudget(self.device), weight_bytes, token_bytes)
        try:
            self._llm = self._open(weights, weight_bytes, token_bytes * self.cache_tokens)
            self.read([[0]])
        except (RuntimeError, ValueError) as error:
            self.close()
            _clean_up()  # of what could not even be opened, too
            failure = classify(error)
            reason = failure.words or failure.error
            raise MissingPrerequisite(
                f"lm_backend: vllm cannot run {self.source.name}/{self.folder} here ({reason}); use pt"
            ) from error

    def using(self) -> AbstractContextManager[object]:
        """Nothing to do: the weights stay where vLLM has them."""
        return nullcontext()

    def decode_loop(self, sampling: Sampling, seeds: Sequence[int]) -> VLLMDecodeLoop:
        self.llm.reset_prefix_cache()  # what another request has read is not this one's to save
        return VLLMDecodeLoop(self, TokenSelector(sampling, seeds, self.device))

    @property
    def llm(self) -> LLM:
        if self._llm is None:
            raise RuntimeError("vllm: load() comes first")
        return self._llm

    def facts(self) -> dict[str, Any]:
        import vllm  # pyright: ignore[reportMissingImports]

        assert self._llm is not None, "vllm: load() comes first"
        return {"version": f"vllm {vllm.__version__}", **self._facts, "cache_tokens": self.cache_tokens}

    def close(self) -> None:
        """Give the memory back."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            _clean_up()

    def read(self, prompts: Sequence[list[int]]) -> list[RequestOutput]:
        """Bring `prompts` into the cache."""
        from acestep.lm.backends.vllm_hooks import to_read

        return self._run(prompts, [to_read() for _ in prompts])

    def write(
        self, request: Request, prompts: Sequence[list[int]], most: Sequence[int]
    ) -> list[RequestOutput]:
        """Go on from `prompts`, one per row, by what `request` chooses, at most `most[row]` tokens.

        Raises UsageError where they do not fit into the cache together: vLLM would let some rows wait.
        """
        from acestep.lm.backends.vllm_hooks import to_write

        lengths = [len(prompt) + new for prompt, new in zip(prompts, most, strict=True)]
        together = sum(-(-length // BLOCK) * BLOCK for length in lengths)
        if max(lengths) > CONTEXT or together > self.cache_tokens:
            raise UsageError(
                f"lm_backend vllm: {len(lengths)} rows of {max(lengths)} tokens do not fit; it has room "
                f"for {CONTEXT} per row and {self.cache_tokens} in all; ask for less at once, or use pt"
            )
        self._requests.append(request)
        try:
            return self._run(prompts, [to_write(row, new) for row, new in enumerate(most)])
        finally:
            self._requests.clear()

    def _run(self, prompts: Sequence[list[int]], params: list[SamplingParams]) -> list[RequestOutput]:
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        requests = self.llm.enqueue(inputs, params, use_tqdm=False)
        try:
            return self.llm.wait_for_completion(use_tqdm=False)
        except BaseException:
            self.llm.llm_engine.abort_request(requests, internal=True)
            raise

    def _open(self, weights: Weights, weight_bytes: int, cache_bytes: int) -> LLM:
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        from acestep.lm.backends.vllm_hooks import LOAD_FORMAT, processor_of

        total_bytes = MemoryBudget(self.device).total_bytes()
        set_num_threads = torch.set_num_threads
        try:
            with scratch_folder() as folder:
                (folder / "config.json").write_text(json.dumps(self.source.config(self.folder)))
                return LLM(
                    str(folder),
                    skip_tokenizer_init=True,
                    load_format=LOAD_FORMAT,
                    model_loader_extra_config={"weights": weights, "facts": self._facts},
                    logits_processors=[processor_of(self._requests)],
                    dtype=str(self.dtype).removeprefix("torch."),
                    seed=0,
                    max_model_len=min(CONTEXT, self.cache_tokens),
                    max_num_seqs=2 * MAX_BATCH,
                    max_num_batched_tokens=CONTEXT,
                    enable_chunked_prefill=False,
                    async_scheduling=False,
                    enforce_eager=not self.graphs,
                    block_size=BLOCK,
                    kv_cache_memory_bytes=cache_bytes,
                    gpu_memory_utilization=(weight_bytes + cache_bytes + WORK_BYTES) / total_bytes,
                )
        finally:
            torch.set_num_threads = set_num_threads  # vLLM's CPU worker puts in one that does nothing


def _check_vllm(device: torch.device) -> None:
    """Whether there is a vLLM for `device`. Its first import is here."""
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault(*LOGGING)
    try:
        from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPrerequisite(
            f"lm_backend: vllm cannot be imported ({error}); pip install 'acestep-bench[vllm]', or use pt"
        ) from None
    if current_platform.device_type != device.type:
        raise MissingPrerequisite(
            f"lm_backend: this vllm computes on {current_platform.device_type}, not {device.type}; "
            "install the build for it, or use pt"
        )
    if device.index:
        raise MissingPrerequisite(
            f"lm_backend: vllm runs on the first card it sees, not {device}; "
            f"set CUDA_VISIBLE_DEVICES={device.index} and device cuda, or use pt"
        )


def _clean_up() -> None:
    from vllm.distributed import cleanup_dist_env_and_memory  # pyright: ignore[reportMissingImports]

    cleanup_dist_env_and_memory()


def _cache_tokens(budget: MemoryBudget, weight_bytes: int, token_bytes: int) -> int:
    """Tokens to keep keys and values of: half of what the weights leave free at most, as the other models
    need the rest. Raises MissingPrerequisite where that is too little for one guided item."""
    left_bytes = budget.free_bytes() - weight_bytes - WORK_BYTES
    tokens = min(MOST_CACHE_TOKENS, left_bytes // 2 // token_bytes // BLOCK * BLOCK)
    if tokens < LEAST_CACHE_TOKENS:
        needed = weight_bytes + WORK_BYTES + 2 * LEAST_CACHE_TOKENS * token_bytes
        raise MissingPrerequisite(
            f"lm_backend: vllm needs {needed / GIB:.1f} GiB, {budget.free_bytes() / GIB:.1f} are free; use pt"
        )
    return tokens
