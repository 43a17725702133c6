"""What the published package makes of the cases: `python -m tests.subjects.qwen3_tts.golden` writes it anew.

It runs in the package's own environment (`make test-oracles`). Values are of fp64, for norms and angles too;
how far the package's own fp32 is from them is in `golden.json`, with the versions. Codes are equal in both.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.parity import compare, precision
from subjects.qwen3_tts import oracles
from tests.subjects.qwen3_tts import cases
from tests.subjects.qwen3_tts.cases import (
    CHUNK,
    CONTEXT,
    END,
    GROUPS,
    LOGITS,
    PROMPTS,
    ROLE,
    SAMPLES,
    WIDTHS,
    Prompt,
)

GOLDEN = Path(__file__).with_suffix(".safetensors")
VERSIONS = ("qwen-tts", "transformers", "torch", "librosa", "numpy")


class Published:
    """The package's networks with the weights of a seed, in one dtype."""

    def __init__(self, dtype: torch.dtype, seed: int = 0):
        self.dtype = dtype
        self.seed = seed

    def values(self) -> dict[str, Tensor]:
        """What is made of every case, by its name."""
        found = {}
        for name, width in WIDTHS.items():
            model = self._filled(oracles.generation(cases.config(width)))
            with torch.no_grad(), precision(self.dtype):
                parts = self.talker(model, width) | self.speaker(model) | self.prompts(model, width)
            found |= {f"{name}/{part}": value for part, value in parts.items()}
        decoder = self._filled(oracles.decoder(cases.DECODER), "decoder.")
        with torch.no_grad(), precision(self.dtype):
            return (
                found | self.decoder(decoder) | {"mel": oracles.log_mel(self._cast(cases.samples(self.seed)))}
            )

    def talker(self, model: Any, width: int) -> dict[str, Tensor]:
        """Hidden states of rows, logits of the last, and of frames those of every head, its codes known."""
        talker, rows = model.talker, self._cast(cases.rows(width, self.seed))
        hidden = talker.model(inputs_embeds=rows, use_cache=False).last_hidden_state
        state, codes = cases.frames(width, self.seed)
        tables = [talker.get_input_embeddings(), *talker.code_predictor.get_input_embeddings()]
        inputs = [self._cast(state), *(table(codes[:, i]) for i, table in enumerate(tables))]
        heads = [
            talker.code_predictor(inputs_embeds=torch.stack(inputs[: 1 + i], dim=1)).logits[:, -1]
            for i in range(1, GROUPS)
        ]
        return {
            "hidden": hidden,
            "logits": talker.codec_head(hidden[:, -1])[..., LOGITS],
            "heads": torch.stack(heads, dim=1)[..., LOGITS],
        }

    def speaker(self, model: Any) -> dict[str, Tensor]:
        return {"speaker": model.speaker_encoder(self._cast(cases.mels(self.seed)))}

    def prompts(self, model: Any, width: int) -> dict[str, Tensor]:
        """The rows of every prompt, what trails, and the likeliest codes, also of a model eager to end."""
        found = {}
        for prompt in PROMPTS:
            with mock.patch.object(model.talker, "generate", wraps=model.talker.generate) as generate:
                (codes,), _ = model.generate(**self._request(prompt, width))
            given = generate.call_args.kwargs
            found |= {
                f"{prompt.name}/rows": given["inputs_embeds"][0],
                f"{prompt.name}/trailing": given["trailing_text_hidden"][0],
                f"{prompt.name}/codes": codes,
            }
        cases.eager(model.talker.codec_head.weight)
        for prompt in PROMPTS:
            (codes,), _ = model.generate(**self._request(prompt, width))
            found[f"{prompt.name}/codes to the end"] = codes
        return found

    def _request(self, prompt: Prompt, width: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "input_ids": [torch.cat((ROLE, prompt.body, END, ROLE), dim=1)],
            "languages": [prompt.language],
            "speakers": [prompt.speaker],
            "instruct_ids": [prompt.instruct],
            "non_streaming_mode": prompt.non_streaming,
            "max_new_tokens": cases.FRAMES + 1,
            "do_sample": False,
            "subtalker_dosample": False,
        }
        if prompt.x_vector:
            request["ref_ids"] = [torch.cat((ROLE, prompt.reference, END), dim=1)]
            request["voice_clone_prompt"] = {
                "ref_code": [prompt.codes],
                "ref_spk_embedding": [prompt.voice(width)],
                "x_vector_only_mode": [not prompt.reference_frames],
                "icl_mode": [bool(prompt.reference_frames)],
            }
        return request

    def decoder(self, decoder: Any) -> dict[str, Tensor]:
        """Audio of two items in one pass, and of one in chunks, each with some frames before it."""
        codes = cases.codes(self.seed)
        chunked = decoder.chunked_decode(codes[:1], CHUNK, CONTEXT)
        return {"decoder": decoder(codes)[:, 0, SAMPLES], "chunked": chunked[:, 0, SAMPLES]}

    def _filled(self, module: Any, prefix: str = "") -> Any:
        shapes = {prefix + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        state = cases.weights(shapes, self.seed)
        return oracles.fill(module, {name.removeprefix(prefix): v for name, v in state.items()}, self.dtype)

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.dtype)


def main() -> None:
    torch.set_num_threads(1)  # matrices this small take longer to share out than to multiply
    golden, rounded = (Published(dtype).values() for dtype in (torch.float64, torch.float32))
    off = {}
    for name, value in golden.items():
        if value.is_floating_point():
            off[name] = compare(value, rounded[name]).relative_rms
        elif not torch.equal(value, rounded[name]):
            raise SystemExit(f"{name}: other codes in fp32: {value.tolist()} and {rounded[name].tolist()}")
    save_file({name: value.contiguous() for name, value in golden.items()}, GOLDEN)
    facts = {
        "versions": {name: version(name) for name in VERSIONS},
        "relative_rms_of_fp32": {name: float(f"{error:.1e}") for name, error in off.items()},
    }
    GOLDEN.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
