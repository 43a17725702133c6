"""Requests: the frozen records that every entry point shares.

`GenerationParams` says what the music is, `GenerationConfig` how the run is made, `DescriptionParams`
what the language model is to describe. Field names are those of the upstream API where the field exists
there. Validation happens on construction and names field, value and allowed range; what depends on the
machine or the model (tier limits, a turbo model's steps) is the resolver's. No torch import here.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from acestep.defaults import DEFAULT_SEED
from acestep.spelling import settle
from acestep.tasks import SOURCE_TASKS, TASKS, TRACKS, takes
from acestep.text import audio_codes
from harness.checks import one_of, path, sequence, shown, within
from harness.declared import check, choice, number, switch, whole, words
from harness.errors import UsageError
from harness.subject import DEFAULT_PRESET, MAX_SEED

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
LONGEST_S = DURATION_RANGE_S[1]
AUDIO_FORMATS = ["wav", "flac", "mp3", "opus", "aac", "wav32"]
MP3_BITRATES = ["128k", "192k", "256k", "320k"]
MP3_SAMPLE_RATES = [48_000, 44_100]
INFER_METHODS = ["ode", "sde", "heun"]
GUIDANCE_MODES = ["apg", "adg", "cfg"]
REPAINT_MODES = ["aggressive", "balanced", "conservative"]
CHUNK_MASK_MODES = ["auto", "explicit"]
DCW_MODES = ["double", "low", "high", "pix"]
DCW_WAVELETS = ["haar", "db2", "db4", "sym4", "sym8", "coif2"]
PRESET_NAMES = ["fixed", "upstream", "guide"]
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

    caption: str = words("", MAX_CAPTION_CHARS)
    lyrics: str = words("[Instrumental]", MAX_LYRICS_CHARS)
    duration: float | None = number(None, *DURATION_RANGE_S)  # the source's, the codes', the LM's, else 30
    bpm: int | None = None
    keyscale: str = ""
    timesignature: str = ""
    vocal_language: str = "unknown"
    instrumental: bool = switch(False)
    # What to do, and to which recording.
    task_type: str = choice("text2music", [*TASKS])
    src_audio: str | None = None  # path; all tasks but text2music
    reference_audio: tuple[str, ...] = ()  # paths of clips whose timbre to take
    audio_codes: str = ""  # "<|audio_code_1|><|audio_code_2|>...": instead of planning them
    track_name: str = ""  # lego, extract
    complete_track_classes: tuple[str, ...] = ()
    audio_cover_strength: float = number(1.0, 0.0, 1.0)  # share of the steps that see the source
    cover_noise_strength: float = number(0.0, 0.0, 1.0)  # how far from pure noise a cover starts
    # Painting a region of it. What is None follows from the mode.
    repainting_start: float = number(0.0, -LONGEST_S, LONGEST_S)  # s; below 0 paints before it begins
    repainting_end: float = number(-1.0, -1.0, 2 * LONGEST_S)  # below 0: the end; past it: paints on
    repaint_mode: str = choice("balanced", REPAINT_MODES)
    repaint_strength: float = number(0.5, 0.0, 1.0)  # how little of the source a balanced region keeps
    repaint_injection_ratio: float | None = number(None, 0.0, 1.0)  # of the steps put the kept part back
    repaint_latent_crossfade_frames: int | None = whole(None, 0, 250)  # 25 per second, outside the region
    repaint_wav_crossfade_sec: float | None = number(None, 0.0, 10.0)  # of the source put back, decoded
    chunk_mask_mode: str = choice("auto", CHUNK_MASK_MODES)  # explicit: the DiT is told the region
    # From one song to another: what the words change, added to a cover.
    flow_edit_morph: bool = switch(False)
    flow_edit_source_caption: str = words("", MAX_CAPTION_CHARS)
    flow_edit_source_lyrics: str = words("", MAX_LYRICS_CHARS)
    flow_edit_n_min: float = number(0.0, 0.0, 1.0)  # share of the schedule: edited from n_min to n_max
    flow_edit_n_max: float = number(1.0, 0.0, 1.0)
    flow_edit_n_avg: int = whole(1, 1, 16)  # draws averaged in a step
    # Planning by the 5 Hz language model.
    thinking: bool = switch(False)  # plan audio codes, 5 per second
    use_cot_metas: bool = switch(True)  # fill empty metadata when the LM runs
    use_cot_caption: bool = switch(False)  # let the LM rewrite the caption
    use_cot_language: bool = switch(False)  # let the LM name the vocal language
    use_constrained_decoding: bool = switch(True)  # the LM writes its thoughts by the grammar
    lm_temperature: float = number(0.85, 0.0, 2.0)
    lm_cfg_scale: float = number(2.0, 1.0, 20.0)
    lm_top_k: int = whole(0, 0, 1_000_000)  # 0 = off
    lm_top_p: float = number(0.9, 0.0, 1.0)
    lm_repetition_penalty: float = number(1.0, 0.1, 10.0)
    lm_negative_prompt: str = words("NO USER INPUT", MAX_CAPTION_CHARS)
    # Diffusion. None is the variant's own: turbo 8 steps unguided, base 50 steps at 7.0.
    inference_steps: int | None = whole(None, 1, 200)
    shift: float = number(1.0, 0.1, 20.0)  # turbo snaps it to 1, 2 or 3
    timesteps: tuple[float, ...] = ()  # instead of steps and shift
    infer_method: str = choice("ode", INFER_METHODS)
    guidance_scale: float | None = number(None, 1.0, 30.0)
    guidance_mode: str = choice("apg", GUIDANCE_MODES)
    cfg_interval_start: float = number(0.0, 0.0, 1.0)  # guided while start <= t <= end
    cfg_interval_end: float = number(1.0, 0.0, 1.0)
    velocity_norm_threshold: float = number(0.0, 0.0, 100.0)  # longest velocity, in lengths of x; 0 = off
    velocity_ema_factor: float = number(0.0, 0.0, 1.0)  # share of the last step's velocity
    dcw_enabled: bool | None = switch(False, open=True)  # correct steps by wavelet bands; None: turbo's
    dcw_mode: str = choice("double", DCW_MODES)
    dcw_scaler: float = number(0.05, 0.0, 10.0)
    dcw_high_scaler: float = number(0.02, 0.0, 10.0)
    dcw_wavelet: str = choice("haar", DCW_WAVELETS)
    retake_variance: float = number(0.0, 0.0, 1.0)  # how far the noise turns to that of retake_seed
    retake_seed: int | None = whole(None, 0, MAX_SEED)
    # From latents to a file.
    latent_shift: float = number(0.0, -10.0, 10.0)
    latent_rescale: float = number(1.0, 0.1, 10.0)
    enable_normalization: bool = switch(False)  # every item to the same peak
    normalization_db: float = number(-1.0, -60.0, 0.0)  # of full scale
    fade_in_duration: float = number(0.0, 0.0, LONGEST_S)  # s
    fade_out_duration: float = number(0.0, 0.0, LONGEST_S)

    def __post_init__(self) -> None:
        settle(self)
        check(self)
        check_metadata(self.bpm, self.keyscale, self.timesignature, self.vocal_language)
        self._check_lists()
        self._check_sources()
        self._check_order()

    def _check_lists(self) -> None:
        """Paths, tracks, codes and times, which are more than one value."""
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
        times = sequence("timesteps", self.timesteps, MAX_TIMESTEPS)
        for time in times:
            within("timesteps", time, 0.0, 1.0)
        if any(later >= earlier for earlier, later in itertools.pairwise(times)):
            raise UsageError(f"timesteps: {shown(times)} do not fall; each must be below the one before it")
        if times and times[0] == 0:
            raise UsageError(f"timesteps: {shown(times[0])} is where the last step ends; begin above it")
        object.__setattr__(self, "timesteps", times)

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

    def _check_order(self) -> None:
        """What begins ends later."""
        end = self.repainting_end
        if TASKS[self.task_type].region and 0 <= end <= self.repainting_start:
            raise UsageError(
                f"repainting_end: {end:g} is not after repainting_start {self.repainting_start:g}"
            )
        within("cfg_interval_end", self.cfg_interval_end, self.cfg_interval_start, 1.0)
        within("flow_edit_n_max", self.flow_edit_n_max, self.flow_edit_n_min, 1.0)

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
    """How the run is made. `seeds`: one per batch item; None draws them, and the result reports them.

    `preset`: the values that the request began with (`acestep.presets`), for its record. It changes no field:
    whoever builds a request takes those from there, and what differs from them is told as asked for.
    """

    batch_size: int = whole(1, 1, MAX_BATCH)
    seeds: tuple[int, ...] | None = None
    audio_format: str = choice("wav", AUDIO_FORMATS)
    mp3_bitrate: str = choice("128k", MP3_BITRATES)
    mp3_sample_rate: int = choice(48_000, MP3_SAMPLE_RATES)
    preset: str = choice(DEFAULT_PRESET, PRESET_NAMES)

    def __post_init__(self) -> None:
        check(self)
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
    query: str = words("", MAX_CAPTION_CHARS)
    instrumental: bool = switch(False)
    caption: str = words("", MAX_CAPTION_CHARS)
    lyrics: str = words("", MAX_LYRICS_CHARS)
    bpm: int | None = None
    duration: int | None = whole(None, 10, int(LONGEST_S))  # seconds
    keyscale: str = ""
    timesignature: str = ""
    vocal_language: str = "unknown"
    temperature: float = number(0.85, 0.0, 2.0)
    top_k: int = whole(0, 0, 1_000_000)
    top_p: float = number(1.0, 0.0, 1.0)
    repetition_penalty: float = number(1.0, 0.1, 10.0)
    seed: int = whole(DEFAULT_SEED, 0, MAX_SEED)
    max_caption_tokens: int = whole(512, 1, 512)
    max_lyrics_tokens: int = whole(2048, 1, 4096)
    ignore_eos: bool = switch(False)
    use_constrained_decoding: bool = switch(True)

    def __post_init__(self) -> None:
        settle(self)
        check(self)
        audio_codes.parse(self.audio_codes)
        check_metadata(self.bpm, self.keyscale, self.timesignature, self.vocal_language)


def drawn_seed() -> int:
    """A seed that nobody chose."""
    return random.randint(0, MAX_SEED)
