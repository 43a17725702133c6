"""Byte-pair tokenizers as Qwen's are: where text is cut before pairs are merged, and bytes as letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

# Qwen's split into words: contractions, letters with the one sign before them, each digit by itself,
# signs with the newlines after them, then white space.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def backend(model: tokenizers.models.BPE) -> tokenizers.Tokenizer:
    """The tokenizer around a vocabulary and its merges."""
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
