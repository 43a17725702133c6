"""A working tokenizer for synthetic checkpoints: Qwen3's ids and splitting rules, a vocabulary of our own.

Token counts set the cost of LM prefill and of the DiT's cross-attention, so a synthetic checkpoint needs
a real byte-level BPE with merges. Ours are learned from `data/corpus.txt` (captions and lyrics in twelve
languages) and kept in `data/merges.txt`: 4,000 against Qwen's 151,387, so synthetic prompts are somewhat
longer than real ones, most in scripts the corpus does not cover.

       0 .. 255      the bytes, printable ones first (so newline is 198 and space 220)
     256 .. 256+M    one token per merge, in order of learning
        .. 151642    fillers no text ever reaches: a random model still picks them, they decode to " bcdf"
    151643 ..        special tokens; for the LM, the audio codes

Learn the merges again after editing the corpus:

    python -m acestep.weights.synthetic_tokenizer
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import models, processors, trainers

from acestep.text.tokenizer import CODE_SLOTS, ENDOFTEXT, SPECIAL_TOKENS, Tokenizer, code_name
from harness.byte_pairs import backend
from harness.files import write_whole

Kind = Literal["lm", "text"]

DATA = Path(__file__).parent / "data"
MERGES = 4000
# One turn per message, each closed by <|im_end|>, as the language model's prompts are built.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"
)


def byte_alphabet() -> list[str]:
    """One printable character per byte, in id order: the GPT-2 table.

    Bytes that print in Latin-1 stand for themselves; the other 68 take the code points from 256 up.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Every text id 0..151642: bytes, merges, fillers."""
    tokens = dict.fromkeys(byte_alphabet() + [left + right for left, right in merges])
    fillers = ("Ġ" + "".join(letters) for letters in product("bcdfghjklmnpqrstvwxz", repeat=4))
    unused = (filler for filler in fillers if filler not in tokens)
    return {token: id_ for id_, token in enumerate([*tokens, *islice(unused, ENDOFTEXT - len(tokens))])}


@lru_cache(maxsize=1)
def _synthetic_backend() -> tokenizers.Tokenizer:
    lines = (DATA / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    return backend(models.BPE(_vocabulary(merges), merges))


@lru_cache(maxsize=2)
def synthetic_tokenizer(kind: Kind) -> Tokenizer:
    """The tokenizer of `tokenizer_files(kind)` without the files, built once per process.

    The kinds differ in their files only: `Tokenizer` needs neither names of audio codes nor the
    post-processor.
    """
    return Tokenizer(_synthetic_backend())


def tokenizer_files(kind: Kind) -> dict[str, bytes]:
    """The files of a checkpoint's tokenizer, by name; the same bytes every time.

    `lm` names all 65,535 audio codes; `text` appends one <|endoftext|> to what it encodes, as
    Qwen3-Embedding does.
    """
    names = SPECIAL_TOKENS + ([code_name(code) for code in range(CODE_SLOTS)] if kind == "lm" else [])
    document = json.loads(_synthetic_backend().to_str())
    document["added_tokens"] = [_added_token(ENDOFTEXT + i, name) for i, name in enumerate(names)]
    if kind == "text":
        document["post_processor"] = _append_endoftext()
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    config = special | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 32768,
        "clean_up_tokenization_spaces": False,
    }
    contents = {
        "tokenizer.json": document,
        "tokenizer_config.json": config,
        "special_tokens_map.json": special,
        "added_tokens.json": {name: ENDOFTEXT + i for i, name in enumerate(names)},
    }
    files = {name: _json_bytes(content) for name, content in contents.items()}
    return files | {"chat_template.jinja": CHAT_TEMPLATE.encode()}


def _added_token(id_: int, name: str) -> dict[str, Any]:
    """One added token. `<think>` and the tool tags are not flagged special, as published."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id_, "content": name, **flags, "special": name.startswith("<|")}


def _append_endoftext() -> dict[str, Any]:
    end = SPECIAL_TOKENS[0]
    processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, ENDOFTEXT)])
    return json.loads(processor.__getstate__())


def _json_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def learn_merges() -> list[tuple[str, str]]:
    """The MERGES most useful pairs of the corpus, in the order byte-pair encoding joins them."""
    tokenizer = backend(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGES, initial_alphabet=byte_alphabet(), show_progress=False
    )
    tokenizer.train([str(DATA / "corpus.txt")], trainer)
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


if __name__ == "__main__":
    lines = [f"{left} {right}\n" for left, right in learn_merges()]
    write_whole(DATA / "merges.txt", "".join(lines).encode())
