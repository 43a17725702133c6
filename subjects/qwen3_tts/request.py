"""A request: what is said, by whom, how long, and how codes are drawn. No torch import here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks import one_of, path, sequence, within
from harness.declared import check, choice, number, switch, whole, words
from harness.subject import DEFAULT_DURATION_S, DEFAULT_SEED
from subjects.qwen3_tts.config import FRAME_SAMPLES, SAMPLE_RATE
from subjects.qwen3_tts.layout import TEXT_VOCAB
from subjects.qwen3_tts.prompt import AUTO, PUBLISHED

MAX_BATCH = 64
MAX_SEED = 2**32 - 1
MAX_TEXT_IDS = 8_192
MAX_TEXT_CHARS = 32_768
MAX_FRAMES = 8_191  # of the published limit of 8,192 tokens, the last of which is no frame
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
DEFAULT_TEXT = "The boats left before dawn, and by noon the whole harbour had heard what they brought back."


@dataclass(frozen=True, slots=True)
class Request:
    """One utterance, `batch_size` times with seeds that follow one another.

    `text_ids`: tokens of the text, instead of it. `duration_s`: audio of exactly so many whole frames, the
    model's own end is passed over; None: until it ends by itself, `max_frames` at most. `speaker`: of a
    CustomVoice model. `reference`: a recording of the voice, for a Base model; None is a made-up one.
    `text_streaming`: text enters frame by frame instead of before the first one; None is the mode's own way.

    `chunk_frames`: of a stream's pieces. `context`: how many frames before a piece are decoded again with it,
    as the published package does; None keeps the decoder's state, which is exact.
    """

    text: str = words(DEFAULT_TEXT, MAX_TEXT_CHARS)
    text_ids: tuple[int, ...] | None = None
    instruct: str = words("", MAX_TEXT_CHARS)
    language: str = choice(AUTO, (AUTO, *PUBLISHED.languages))
    speaker: str | None = None
    reference: str | None = None
    text_streaming: bool | None = None
    duration_s: float | None = number(None, FRAME_S, MAX_FRAMES * FRAME_S)
    max_frames: int = whole(MAX_FRAMES, 1, MAX_FRAMES)
    batch_size: int = whole(1, 1, MAX_BATCH)
    seed: int = whole(DEFAULT_SEED, 0, MAX_SEED)
    greedy: bool = switch(False)
    temperature: float = number(0.9, 0.01, 10.0)
    top_k: int = whole(50, 0, 1_000_000)
    repetition_penalty: float = number(1.05, 0.1, 10.0)
    chunk_frames: int = whole(4, 1, 1_000)
    context: int | None = whole(None, 0, MAX_FRAMES)

    def __post_init__(self) -> None:
        check(self)
        if self.speaker is not None:
            one_of("speaker", self.speaker, tuple(PUBLISHED.speakers))
        if self.reference is not None:
            object.__setattr__(self, "reference", path("reference", self.reference))
        if self.text_ids is not None:
            ids = sequence("text_ids", self.text_ids, MAX_TEXT_IDS)
            for token in ids:
                within("text_ids", token, 0, TEXT_VOCAB - 1, kind=int)
            object.__setattr__(self, "text_ids", ids)

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each item."""
        return tuple((self.seed + item) % (MAX_SEED + 1) for item in range(self.batch_size))


def request(duration_s: float | None = DEFAULT_DURATION_S, **fields: object) -> Request:
    """A request of fixed length where nothing else is said. Raises UsageError."""
    return Request(duration_s=duration_s, **fields)  # type: ignore[arg-type]
