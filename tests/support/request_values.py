"""What each field of a request takes and refuses, up to its bounds."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from acestep.request import (
    AUDIO_FORMATS,
    CHUNK_MASK_MODES,
    DCW_MODES,
    DCW_WAVELETS,
    GUIDANCE_MODES,
    INFER_METHODS,
    KEYSCALES,
    LANGUAGES,
    MAX_SEED,
    MP3_BITRATES,
    MP3_SAMPLE_RATES,
    PRESET_NAMES,
    REPAINT_MODES,
    TIME_SIGNATURES,
    DescriptionParams,
    GenerationConfig,
    GenerationParams,
)
from acestep.tasks import TASKS, TRACKS
from acestep.text import audio_codes

NO_NUMBERS = (math.nan, math.inf, -math.inf, 10**5000, True, "1", "", [1], {}, object())
NO_TEXTS = (None, 1, True, math.nan, ["a"], {}, b"a", "\0", "\x1b[2J", "\x9b", "\ud800")


class Values(NamedTuple):
    """What a field takes and refuses, beside other fields it depends on."""

    good: Sequence[Any]
    bad: Sequence[Any]
    beside: Mapping[str, Any] = MappingProxyType({})

    def or_open(self) -> "Values":
        bad = [value for value in self.bad if value is not None and not is_empty_text(value)]
        return self._replace(good=[*self.good, None, ""], bad=bad)


def is_empty_text(value: Any) -> bool:
    return isinstance(value, str) and not value


def number(low: float, high: float) -> Values:
    beyond = (math.nextafter(low, -math.inf), math.nextafter(high, math.inf))
    return Values((low, high, (low + high) / 2), (*beyond, None, *NO_NUMBERS))


def whole(low: int, high: int) -> Values:
    return Values((low, high), (low - 1, high + 1, low + 0.5, float(low), None, *NO_NUMBERS))


def words(allowed: Sequence[str]) -> Values:
    return Values(allowed, [*NO_TEXTS, "", "x" * 1000, f"{allowed[0]} "])


def text(most: int) -> Values:
    return Values(("", "a\tb\n夜", "x" * most, "<|im_end|>"), (*NO_TEXTS, "x" * (most + 1), "x" * 10**6))


SWITCH = Values((True, False), (None, 0, 1, 0.0, math.nan, "true", "", []))
CODES = Values(
    ("", "<|audio_code_0|> <|audio_code_63999|>", "<|audio_code_64000|>", audio_codes.join([5] * 3000)),
    (*NO_TEXTS, "17", "<|audio_code_x|>", "<|audio_code_100000|>", audio_codes.join([5] * 3001)),
)
METADATA = {
    "bpm": whole(30, 300).or_open(),
    "keyscale": words(KEYSCALES).or_open(),
    "timesignature": words(TIME_SIGNATURES).or_open(),
    "vocal_language": words(LANGUAGES).or_open(),
    "instrumental": SWITCH,
}
FIELDS: dict[type, dict[str, Values]] = {
    GenerationParams: METADATA
    | {
        "caption": text(4_096).or_open(),
        "lyrics": text(16_384),
        "duration": number(1.0, 600.0).or_open(),
        "task_type": words([*TASKS][1:])._replace(beside={"src_audio": "song.wav"}),
        "src_audio": Values(
            ("song.wav", "夜/曲.flac", "x" * 4_096),
            ("a\0b", "x" * 4_097, 0, True, math.nan, ["song.wav"], {}, b"song.wav"),
            {"task_type": "cover"},
        ),
        "reference_audio": Values(
            (None, "", (), "a.wav", ["a.wav"], ("a.wav",) * 8),
            ([""], ["a.wav"] * 9, ["a.wav"] * 10**6, [None], [["a.wav"]], 7, {}, "a\0b"),
        ),
        "audio_codes": CODES.or_open(),
        "track_name": words(TRACKS).or_open(),
        "complete_track_classes": Values(
            (None, "", (), "drums", ["drums"], TRACKS),
            (
                ["Drums"],
                [None],
                [["drums"]],
                ["drums"] * 13,
                ["drums"] * 10**6,
                7,
                {},
                "drums bass",
            ),
        ),
        "repainting_start": number(-600.0, 600.0),
        "repainting_end": number(-1.0, 1200.0),
        "repaint_mode": words(REPAINT_MODES),
        "repaint_strength": number(0.0, 1.0),
        "repaint_injection_ratio": number(0.0, 1.0).or_open(),
        "repaint_latent_crossfade_frames": whole(0, 250).or_open(),
        "repaint_wav_crossfade_sec": number(0.0, 10.0).or_open(),
        "chunk_mask_mode": words(CHUNK_MASK_MODES),
        "flow_edit_morph": SWITCH,
        "flow_edit_source_caption": text(4_096).or_open(),
        "flow_edit_source_lyrics": text(16_384).or_open(),
        "flow_edit_n_min": number(0.0, 1.0),
        "flow_edit_n_max": number(0.0, 1.0),
        "flow_edit_n_avg": whole(1, 16),
        "audio_cover_strength": number(0.0, 1.0),
        "cover_noise_strength": number(0.0, 1.0),
        "thinking": SWITCH,
        "use_cot_metas": SWITCH,
        "use_cot_caption": SWITCH,
        "use_cot_language": SWITCH,
        "use_constrained_decoding": SWITCH,
        "lm_temperature": number(0.0, 2.0),
        "lm_cfg_scale": number(1.0, 20.0),
        "lm_top_k": whole(0, 1_000_000),
        "lm_top_p": number(0.0, 1.0),
        "lm_repetition_penalty": number(0.1, 10.0),
        "lm_negative_prompt": text(4_096),
        "inference_steps": whole(1, 200).or_open(),
        "shift": number(0.1, 20.0),
        "timesteps": Values(
            (None, "", (), 1.0, [1.0, 0.5, 0.0], [1.0 - i / 200 for i in range(200)]),
            (
                0.0,
                [0.5, 0.5],
                [0.1, 0.2],
                [1.1],
                [1.0, -0.1],
                [math.nan],
                [1.0, math.nan],
                ["1"],
                [None],
                [True],
                [[1.0]],
                [1.0 - i / 201 for i in range(201)],
                [0.5] * 10**6,
                "1.0",
                True,
                {},
            ),
        ),
        "infer_method": words(INFER_METHODS),
        "guidance_scale": number(1.0, 30.0).or_open(),
        "guidance_mode": words(GUIDANCE_MODES),
        "cfg_interval_start": number(0.0, 1.0),
        "cfg_interval_end": number(0.0, 1.0),
        "velocity_norm_threshold": number(0.0, 100.0),
        "velocity_ema_factor": number(0.0, 1.0),
        "dcw_enabled": SWITCH._replace(good=(*SWITCH.good, None), bad=SWITCH.bad[1:]),
        "dcw_mode": words(DCW_MODES),
        "dcw_scaler": number(0.0, 10.0),
        "dcw_high_scaler": number(0.0, 10.0),
        "dcw_wavelet": words(DCW_WAVELETS),
        "retake_variance": number(0.0, 1.0),
        "retake_seed": whole(0, MAX_SEED).or_open(),
        "latent_shift": number(-10.0, 10.0),
        "latent_rescale": number(0.1, 10.0),
        "enable_normalization": SWITCH,
        "normalization_db": number(-60.0, 0.0),
        "fade_in_duration": number(0.0, 600.0),
        "fade_out_duration": number(0.0, 600.0),
    },
    GenerationConfig: {
        "batch_size": whole(1, 64),
        "seeds": Values(
            (None, [0], (MAX_SEED,), 7),
            (
                (),
                (1, 2),
                [-1],
                [MAX_SEED + 1],
                [10**5000],
                [0.5],
                [None],
                [True],
                [[1]],
                range(10**9),
                "1",
                "",
                True,
                math.nan,
                {},
                {1: 1},
            ),
        ),
        "audio_format": words(AUDIO_FORMATS),
        "mp3_bitrate": words(MP3_BITRATES),
        "mp3_sample_rate": words(MP3_SAMPLE_RATES),
        "preset": words(PRESET_NAMES),
    },
    DescriptionParams: METADATA
    | {
        "audio_codes": CODES.or_open(),
        "query": text(4_096).or_open(),
        "caption": text(4_096).or_open(),
        "lyrics": text(16_384).or_open(),
        "duration": whole(10, 600).or_open(),
        "temperature": number(0.0, 2.0),
        "top_k": whole(0, 1_000_000),
        "top_p": number(0.0, 1.0),
        "repetition_penalty": number(0.1, 10.0),
        "seed": whole(0, MAX_SEED),
        "max_caption_tokens": whole(1, 512),
        "max_lyrics_tokens": whole(1, 4096),
        "ignore_eos": SWITCH,
        "use_constrained_decoding": SWITCH,
    },
}
