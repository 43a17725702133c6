"""A request: what is said, by whom, how long, and how codes are drawn. No torch import here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks import one_of, path, sequence, within
from harness.declared import check, choice, number, switch, whole, words
from harness.errors import UsageError
from harness.subject import DEFAULT_DURATION_S, DEFAULT_SEED, MAX_SEED, item_seeds
from subjects.qwen3_tts.config import FRAME_SAMPLES, SAMPLE_RATE
from subjects.qwen3_tts.layout import CODES, GROUPS, TEXT_VOCAB
from subjects.qwen3_tts.prompt import AUTO, PUBLISHED

MAX_BATCH = 64
MAX_TEXT_IDS = 8_192
MAX_TEXT_CHARS = 32_768
MAX_FRAMES = 8_191  # of the published limit of 8,192 tokens, the last of which is no frame
USUAL_FRAMES = 2_047  # of the package's own limit where nobody says one
MAX_REFERENCE_FRAMES = 1_000
LEAST_REFERENCE_S, MOST_REFERENCE_S = 0.1, 30.0  # of a recording of a voice
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
DEFAULT_TEXT = "The boats left before dawn, and by noon the whole harbour had heard what they brought back."


@dataclass(frozen=True, slots=True)
class Request:
    """One utterance, `batch_size` times with seeds that follow one another.

    `text_ids`: tokens of the text, instead of it. `duration_s`: audio of exactly so many whole frames, the
    model's own end is passed over; None: until it ends by itself, `max_frames` at most. `speaker`: of a
    CustomVoice model. `reference`: a recording of the voice, for a Base model; None is a made-up one.
    `reference_codes`, 16 a frame, and `reference_text`: what is said in it, which the text then goes on from.
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
    reference_text: str = words("", MAX_TEXT_CHARS)
    reference_codes: tuple[tuple[int, ...], ...] = ()
    text_streaming: bool | None = None
    duration_s: float | None = number(None, FRAME_S, MAX_FRAMES * FRAME_S)
    max_frames: int = whole(USUAL_FRAMES, 1, MAX_FRAMES)
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
        if bool(self.reference_text) != bool(self.reference_codes):
            raise UsageError("reference_text, reference_codes: one is of no use without the other; give both")
        frames = sequence("reference_codes", self.reference_codes, MAX_REFERENCE_FRAMES)
        object.__setattr__(self, "reference_codes", tuple(map(_frame, frames)))

    @property
    def seeds(self) -> tuple[int, ...]:
        """One for each item."""
        return item_seeds(self.seed, self.batch_size)


def _frame(codes: object) -> tuple[int, ...]:
    """The codes of a frame. Raises UsageError unless there are 16 of them."""
    frame = sequence("reference_codes", codes, GROUPS)
    if len(frame) != GROUPS:
        raise UsageError(f"reference_codes: a frame has {len(frame)} codes; give {GROUPS}")
    for code in frame:
        within("reference_codes", code, 0, CODES - 1, kind=int)
    return frame


def request(duration_s: float | None = DEFAULT_DURATION_S, **fields: object) -> Request:
    """A request of fixed length where nothing else is said. Raises UsageError."""
    return Request(duration_s=duration_s, **fields)  # type: ignore[arg-type]
