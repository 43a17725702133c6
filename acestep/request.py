"""Requests: the frozen records that every entry point shares.

`GenerationParams` says what the music is, `GenerationConfig` how the run is made, `DescriptionParams`
what the language model is to describe. Field names are those of the upstream API where the field exists
there. Validation happens on construction and names field, value and allowed range; what depends on the
machine or the model (tier limits, a turbo model's steps) is the resolver's. No torch import here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from acestep.defaults import DEFAULT_SEED
from acestep.spelling import settle
from acestep.tasks import SOURCE_TASKS, TASKS, TRACKS, takes
from acestep.text import audio_codes
from harness.checks import flag, one_of, path, sequence, shown, text, within
from harness.errors import UsageError

LANGUAGES = (
    "ar az bg bn ca cs da de el en es fa fi fr he hi hr ht hu id is it ja ko la lt ms ne nl no pa pl pt "
    "ro ru sa sk sr sv sw ta te th tl tr uk ur vi yue zh unknown"
).split()
KEYSCALES = [
    f"{note}{accidental} {mode}"
    for note in "ABCDEFG"
    for accidental in ("", "#", "b", "♯", "♭")
    for mode in ("major", "minor")
]
TIME_SIGNATURES = ["2", "3", "4", "6"]
BPM_RANGE = (30, 300)
DURATION_RANGE_S = (1.0, 600.0)
AUDIO_FORMATS = ["wav", "flac"]
INFER_METHODS = ["ode", "sde", "heun"]
GUIDANCE_MODES = ["apg", "adg", "cfg"]
MAX_SEED = 2**32 - 1
MAX_BATCH = 64
MAX_CAPTION_CHARS = 4_096
MAX_LYRICS_CHARS = 16_384
MAX_REFERENCES = 8
MAX_TIMESTEPS = 200


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """What the music is. Empty metadata (`None`, `""`) is left for the language model to decide.

    Raises UsageError naming the field, the value and what is allowed.
    """

    caption: str = ""
    lyrics: str = "[Instrumental]"
    duration: float | None = None  # the source's, the codes', the LM's, else 30
    bpm: int | None = None
    keyscale: str = ""
    timesignature: str = ""
    vocal_language: str = "unknown"
    instrumental: bool = False
    # What to do, and to which recording.
    task_type: str = "text2music"
    src_audio: str | None = None  # path; all tasks but text2music
    reference_audio: tuple[str, ...] = ()  # paths of clips whose timbre to take
    audio_codes: str = ""  # "<|audio_code_1|><|audio_code_2|>...": instead of planning them
    track_name: str = ""  # lego, extract
    complete_track_classes: tuple[str, ...] = ()
    repainting_start: float = 0.0  # seconds; below 0 paints before the source begins
    repainting_end: float = -1.0  # below 0: the end of the source; past it: paints on
    repaint_injection_ratio: float = 0.5  # share of the steps that put the kept part back
    repaint_crossfade_frames: int = 10  # 25 per second, outside the region
    audio_cover_strength: float = 1.0  # share of the steps that see the source
    cover_noise_strength: float = 0.0  # how far from pure noise a cover starts
    # Planning by the 5 Hz language model.
    thinking: bool = False  # plan audio codes, 5 per second
    use_cot_metas: bool = True  # fill empty metadata when the LM runs
    use_cot_caption: bool = False  # let the LM rewrite the caption
    use_cot_language: bool = False  # let the LM name the vocal language
    use_constrained_decoding: bool = True  # the LM writes its thoughts by the grammar
    lm_temperature: float = 0.85
    lm_cfg_scale: float = 2.0
    lm_top_k: int = 0  # 0 = off
    lm_top_p: float = 0.9
    lm_repetition_penalty: float = 1.0
    lm_negative_prompt: str = "NO USER INPUT"
    # Diffusion. None is the variant's own: turbo 8 steps unguided, base 50 steps at 7.0.
    inference_steps: int | None = None
    shift: float = 1.0  # turbo snaps it to 1, 2 or 3
    timesteps: tuple[float, ...] = ()  # instead of steps and shift
    infer_method: str = "ode"
    guidance_scale: float | None = None
    guidance_mode: str = "apg"
    cfg_interval_start: float = 0.0  # guided while start <= t <= end
    cfg_interval_end: float = 1.0

    def __post_init__(self) -> None:
        settle(self)
        self._check_words()
        self._check_task()
        switches = ("thinking", "use_cot_metas", "use_cot_caption", "use_cot_language")
        for name in (*switches, "use_constrained_decoding"):
            flag(name, getattr(self, name))
        within("lm_temperature", self.lm_temperature, 0.0, 2.0)
        within("lm_cfg_scale", self.lm_cfg_scale, 1.0, 20.0)
        within("lm_top_k", self.lm_top_k, 0, 1_000_000, kind=int)
        within("lm_top_p", self.lm_top_p, 0.0, 1.0)
        within("lm_repetition_penalty", self.lm_repetition_penalty, 0.1, 10.0)
        self._check_diffusion()

    def _check_words(self) -> None:
        limits = {"caption": MAX_CAPTION_CHARS, "lyrics": MAX_LYRICS_CHARS}
        for name, most in (limits | {"lm_negative_prompt": MAX_CAPTION_CHARS}).items():
            object.__setattr__(self, name, text(name, getattr(self, name), most))
        if self.duration is not None:
            within("duration", self.duration, *DURATION_RANGE_S)
        check_metadata(self.bpm, self.keyscale, self.timesignature, self.vocal_language)
        flag("instrumental", self.instrumental)

    def _check_task(self) -> None:
        one_of("task_type", self.task_type, list(TASKS))
        if self.src_audio is not None:
            object.__setattr__(self, "src_audio", path("src_audio", self.src_audio))
        clips = sequence("reference_audio", self.reference_audio, MAX_REFERENCES)
        object.__setattr__(self, "reference_audio", tuple(path("reference_audio", c) for c in clips))
        audio_codes.parse(self.audio_codes)
        if self.track_name != "":
            one_of("track_name", self.track_name, TRACKS)
        classes = sequence("complete_track_classes", self.complete_track_classes, len(TRACKS))
        for track in classes:
            one_of("complete_track_classes", track, TRACKS)
        object.__setattr__(self, "complete_track_classes", classes)
        far = DURATION_RANGE_S[1]
        within("repainting_start", self.repainting_start, -far, far)
        within("repainting_end", self.repainting_end, -1.0, 2 * far)
        within("repaint_injection_ratio", self.repaint_injection_ratio, 0.0, 1.0)
        within("repaint_crossfade_frames", self.repaint_crossfade_frames, 0, 250, kind=int)
        within("audio_cover_strength", self.audio_cover_strength, 0.0, 1.0)
        within("cover_noise_strength", self.cover_noise_strength, 0.0, 1.0)
        self._check_sources()

    def _check_sources(self) -> None:
        """Each task has what it works on, and nothing to work on that it does not read."""
        task = TASKS[self.task_type]
        codes_will_do = self.task_type == "cover" and self.audio_codes
        if task.source and not self.src_audio and not codes_will_do:
            raise UsageError(f"src_audio: {self.task_type} works on a recording; give the path of one")
        if self.src_audio and not takes(self.task_type, "src_audio"):
            others = ", ".join(SOURCE_TASKS)
            raise UsageError(f"src_audio: text2music has no source; drop it, or set task_type to {others}")
        if self.audio_codes and self.src_audio:
            raise UsageError("audio_codes: given together with src_audio; use one of them")
        if self.audio_codes and not takes(self.task_type, "audio_codes"):
            raise UsageError(f"audio_codes: {self.task_type} works on a recording, not on codes")
        covered = self.audio_cover_strength < 1 or self.cover_noise_strength > 0
        if covered and not takes(self.task_type, "audio_cover_strength"):
            raise UsageError(f"audio_cover_strength, cover_noise_strength: {self.task_type} is no cover")
        end = self.repainting_end
        if task.region and 0 <= end <= self.repainting_start:
            raise UsageError(
                f"repainting_end: {end:g} is not after repainting_start {self.repainting_start:g}"
            )

    def _check_diffusion(self) -> None:
        if self.inference_steps is not None:
            within("inference_steps", self.inference_steps, 1, 200, kind=int)
        within("shift", self.shift, 0.1, 20.0)
        times = sequence("timesteps", self.timesteps, MAX_TIMESTEPS)
        for time in times:
            within("timesteps", time, 0.0, 1.0)
        if any(later >= earlier for earlier, later in itertools.pairwise(times)):
            raise UsageError(f"timesteps: {shown(times)} do not fall; each must be below the one before it")
        if times and times[0] == 0:
            raise UsageError(f"timesteps: {shown(times[0])} is where the last step ends; begin above it")
        object.__setattr__(self, "timesteps", times)
        one_of("infer_method", self.infer_method, INFER_METHODS)
        if self.guidance_scale is not None:
            within("guidance_scale", self.guidance_scale, 1.0, 30.0)
        one_of("guidance_mode", self.guidance_mode, GUIDANCE_MODES)
        within("cfg_interval_start", self.cfg_interval_start, 0.0, 1.0)
        within("cfg_interval_end", self.cfg_interval_end, self.cfg_interval_start, 1.0)

    @property
    def metadata_complete(self) -> bool:
        """Whether bpm, keyscale, timesignature and duration are all given."""
        named = bool(self.keyscale) and bool(self.timesignature)
        return self.bpm is not None and self.duration is not None and named

    @property
    def plans_metadata(self) -> bool:
        """Whether the language model fills in metadata, its first phase. A recording needs none."""
        return self.use_cot_metas and not self.metadata_complete and not TASKS[self.task_type].source

    @property
    def plans_codes(self) -> bool:
        """Whether the language model plans audio codes, its second phase. A recording has its own."""
        return self.thinking and not self.audio_codes and not TASKS[self.task_type].source

    @property
    def uses_lm(self) -> bool:
        """Whether the language model has work in this request."""
        return self.plans_metadata or self.plans_codes


def check_metadata(bpm: object, keyscale: object, timesignature: object, language: object) -> None:
    """Refuse metadata out of range; None and "" are open."""
    if bpm is not None:
        within("bpm", bpm, *BPM_RANGE, kind=int)
    if keyscale not in ("", *KEYSCALES):
        raise UsageError(
            f"keyscale: {shown(keyscale)} is not allowed; "
            "use a note from A to G, with # or b where it has one, and its mode: A major, F# minor"
        )
    if timesignature != "":
        one_of("timesignature", timesignature, TIME_SIGNATURES)
    one_of("vocal_language", language, LANGUAGES)


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """How the run is made. `seeds`: one per batch item; None draws them, and the result reports them."""

    batch_size: int = 1
    seeds: tuple[int, ...] | None = None
    audio_format: str = "wav"

    def __post_init__(self) -> None:
        within("batch_size", self.batch_size, 1, MAX_BATCH, kind=int)
        one_of("audio_format", self.audio_format, AUDIO_FORMATS)
        if self.seeds is not None:
            seeds = sequence("seeds", self.seeds, MAX_BATCH)
            if len(seeds) != self.batch_size:
                raise UsageError(
                    f"seeds: {len(seeds)} given for batch_size {self.batch_size}; give one per item"
                )
            for seed in seeds:
                within("seeds", seed, 0, MAX_SEED, kind=int)
            object.__setattr__(self, "seeds", seeds)


@dataclass(frozen=True, slots=True)
class DescriptionParams:
    """What the language model is to put into words, and how it samples.

    understand reads `audio_codes`; create reads `query`; format reads `caption` and `lyrics`. Metadata
    that is given is kept. `ignore_eos`: write exactly `max_lyrics_tokens` tokens of lyrics, so that the
    work is the request's and not the sampler's.
    """

    audio_codes: str = ""
    query: str = ""
    instrumental: bool = False
    caption: str = ""
    lyrics: str = ""
    bpm: int | None = None
    duration: int | None = None  # seconds
    keyscale: str = ""
    timesignature: str = ""
    vocal_language: str = "unknown"
    temperature: float = 0.85
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = DEFAULT_SEED
    max_caption_tokens: int = 512
    max_lyrics_tokens: int = 2048
    ignore_eos: bool = False
    use_constrained_decoding: bool = True

    def __post_init__(self) -> None:
        settle(self)
        limits = {"query": MAX_CAPTION_CHARS, "caption": MAX_CAPTION_CHARS, "lyrics": MAX_LYRICS_CHARS}
        for name, most in limits.items():
            object.__setattr__(self, name, text(name, getattr(self, name), most))
        audio_codes.parse(self.audio_codes)
        check_metadata(self.bpm, self.keyscale, self.timesignature, self.vocal_language)
        if self.duration is not None:
            within("duration", self.duration, 10, DURATION_RANGE_S[1], kind=int)
        for name in ("instrumental", "ignore_eos", "use_constrained_decoding"):
            flag(name, getattr(self, name))
        within("temperature", self.temperature, 0.0, 2.0)
        within("top_k", self.top_k, 0, 1_000_000, kind=int)
        within("top_p", self.top_p, 0.0, 1.0)
        within("repetition_penalty", self.repetition_penalty, 0.1, 10.0)
        within("seed", self.seed, 0, MAX_SEED, kind=int)
        within("max_caption_tokens", self.max_caption_tokens, 1, 512, kind=int)
        within("max_lyrics_tokens", self.max_lyrics_tokens, 1, 4096, kind=int)


def item_seeds(seed: int, batch_size: int) -> tuple[int, ...]:
    """One seed per batch item from a single one: consecutive, wrapping at 2³².

    Raises UsageError when `seed` is not one.
    """
    within("seed", seed, 0, MAX_SEED, kind=int)
    return tuple((seed + i) % (MAX_SEED + 1) for i in range(batch_size))
