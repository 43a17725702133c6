"""Words to tensors: the caption is understood, the lyrics are looked up, the timbre stands between them."""

import pytest
import torch

from acestep.tasks import instruction
from acestep.text.conditioning import EncodedText, encode, encode_text
from acestep.text.metadata import Metadata
from acestep.text.prompts import CAPTION_LIMIT, LYRIC_LIMIT
from acestep.text.tokenizer import ENDOFTEXT, NEWLINE, TEXT_VOCAB
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer
from harness.nn.qwen3 import Qwen3

REQUEST = {
    "instruction": instruction("repaint"),
    "caption": "a slow waltz",
    "lyrics": "[Verse]\nLa la",
    "language": "en",
    "metadata": Metadata(bpm=90, duration=12),
}


class Recorder(Qwen3):
    """A text encoder that keeps what it was asked: its states and its table both give the id itself."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.embed_tokens = torch.nn.Embedding.from_pretrained(torch.arange(float(TEXT_VOCAB))[:, None])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return -ids[..., None].float()


@pytest.fixture(scope="module")
def read():
    tokenizer = synthetic_tokenizer("text")

    def run(**changes: object) -> tuple[list[int], list[int], str, str]:
        text = encode_text(Recorder(), tokenizer, **(REQUEST | changes))
        caption, lyrics = (-text.caption).long().flatten().tolist(), text.lyrics.long().flatten().tolist()
        return caption, lyrics, tokenizer.decode(caption), tokenizer.decode(lyrics)

    return run


def test_everything_asked_for_is_read(read):
    caption, lyrics, said, sung = read()
    assert said.startswith(f"# Instruction\n{instruction('repaint')}\n\n# Caption\na slow waltz\n\n# Metas\n")
    assert "- bpm: 90\n" in said and "- duration: 12 seconds\n" in said
    assert sung.startswith("# Languages\nen\n\n# Lyric\n[Verse]\nLa la")
    assert caption[-3:] == [ENDOFTEXT, NEWLINE, ENDOFTEXT] and lyrics[-2:] == [ENDOFTEXT, ENDOFTEXT]


@pytest.mark.parametrize("field", ["instruction", "caption", "metadata"])
def test_what_the_caption_branch_reads(read, field: str):
    other = Metadata(bpm=91) if field == "metadata" else "something else:"
    caption, lyrics, *_ = read(**{field: other})
    assert caption != read()[0] and lyrics == read()[1]


@pytest.mark.parametrize("field", ["lyrics", "language"])
def test_what_the_lyric_branch_reads(read, field: str):
    caption, lyrics, *_ = read(**{field: "fr"})
    assert caption == read()[0] and lyrics != read()[1]


def test_long_texts_are_cut_and_closed(read):
    caption, lyrics, *_ = read(caption="la " * 5000, lyrics="la " * 9000)
    assert len(caption) == CAPTION_LIMIT and caption[-1] == ENDOFTEXT
    assert len(lyrics) == LYRIC_LIMIT and lyrics[-1] == ENDOFTEXT


@pytest.mark.parametrize("caption", ["la " * 5000, "夜想曲、" * 900, "8" * 4096, "a. " * 300, "b\n\n" * 900])
def test_a_long_caption_is_cut_and_never_the_metadata_behind_it(read, caption: str):
    """Metas are the last thing of the prompt, so cutting its end would lose them first."""
    ids, _, whole, _ = read(caption=caption)
    metas = REQUEST["metadata"].metas()
    assert len(ids) <= CAPTION_LIMIT and f"\n\n# Metas\n{metas}<|endoftext|>\n" in whole
    kept = whole.partition("# Caption\n")[2].partition("\n\n# Metas")[0]
    assert caption.startswith(kept) and len(ids) > CAPTION_LIMIT - 8
    assert read(caption=kept)[0] == ids, "what is kept is a caption that fits"


def test_tokens_are_lyrics_then_timbre_then_caption():
    text = EncodedText(torch.full((1, 3, 2), 3.0), torch.full((1, 2, 2), 1.0))

    class Model:
        @staticmethod
        def encoder(caption, caption_valid, lyrics, lyrics_valid, timbre):
            assert caption_valid is None and lyrics_valid is None
            return torch.cat((lyrics, timbre, caption), dim=1), None

    tokens = encode(Model(), text, torch.full((1, 4, 2), 2.0))  # type: ignore[arg-type]
    assert tokens[0, :, 0].tolist() == [1, 1, 2, 2, 2, 2, 3, 3, 3]
