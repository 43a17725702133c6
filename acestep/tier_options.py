"""What a tier test may choose of ACE-Step: its flags, and the request that they come to.

Without a request file each case asks for the same song, of the case's length. No torch import here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from acestep import placement
from acestep.defaults import DEFAULT_EXAMPLE, DEFAULT_SEED
from acestep.gpu_config import GUIDE, POLICIES
from acestep.length import painted_s
from acestep.presets import FIXED, PRESETS
from acestep.request import LONGEST_S, GenerationConfig, GenerationParams
from acestep.setup import AUTO, NONE
from acestep.tasks import TASKS
from acestep.text import audio_codes
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.weights.layout import DEFAULT_DIT, DIT_PREFIX, LMS
from harness import dtypes
from harness.adjustments import Adjustments
from harness.console import named
from harness.flags import number
from harness.quantization import LM_QUANTIZATIONS, QUANTIZATIONS
from harness.subject import item_seeds
from harness.tiers import STEPS, Case, Choices, Option, Usual

if TYPE_CHECKING:
    from acestep.cli.upstream import LeftOut

BASE_DIT, XL_DIT = f"{DIT_PREFIX}base", f"{DIT_PREFIX}xl-turbo"
DIT, LM, DTYPE, QUANTIZATION = "dit", "lm_model", "dtype", "quantization"
LM_QUANTIZATION = "lm_quantization"
REQUEST, SHIFT, POLICY, PLACE = "request", "shift", "policy", "place"

OPTIONS = (
    Option(
        DIT,
        ("--dit",),
        f"DiT variants, folders of the source ({DEFAULT_DIT})",
        "FOLDER",
        read=named,
        compared=(DEFAULT_DIT, BASE_DIT, XL_DIT),
    ),
    Option(LM, ("--lm",), "in place of the tier's", allowed=LMS, of_lm=True),
    Option(DTYPE, ("--dtype",), "number formats (the device's)", allowed=(AUTO, *dtypes.NAMES)),
    Option(
        QUANTIZATION,
        ("--quantization",),
        "of the DiT, in place of the tier's",
        allowed=(AUTO, NONE, *QUANTIZATIONS),
    ),
    Option(
        LM_QUANTIZATION,
        ("--lm-quantization",),
        f"of the language model ({NONE})",
        allowed=(NONE, *LM_QUANTIZATIONS),
        of_lm=True,
    ),
    Option(
        REQUEST,
        ("--example",),
        f"requests, or names of examples/text2music such as {DEFAULT_EXAMPLE} (a short song)",
        "FILE",
        read=named,
    ),
    Option(SHIFT, ("--shift",), "of the times of the steps (the request's)", "X", read=number),
    Option(
        PLACE,
        ("--place",),
        "parts on other cards, each of the tier's size",
        "PART=DEVICE,..",
        read=placement.checked,
    ),
    Option(
        POLICY,
        ("--policy",),
        f"whose tiers ({GUIDE})",
        allowed=tuple(POLICIES),
        several=False,
    ),
)

CAPTION = "Warm synth-pop with a steady beat, round bass, bright arpeggios and a clear lead voice"
LYRICS = """[Verse]
Streetlights hum a quiet tune
Paper boats beneath the moon

[Chorus]
Carry me home, carry me home"""

METADATA = {"bpm": 120, "keyscale": "C major", "timesignature": "4", "vocal_language": "en"}


class Asked(NamedTuple):
    """A request, and what its file says beside it."""

    params: GenerationParams
    config: GenerationConfig
    left_out: LeftOut


def asked(case: Case) -> Asked:
    """The request of a case. By the preset `fixed` all metadata is given too, so that the work depends on the
    case alone; by another the language model thinks of it, and a file says what it says.

    The length is the case's, but of a recording or of codes their own.
    """
    choices = dict(case.choices)
    start = _read(choices, case.preset)
    params = start.params
    if REQUEST not in choices:
        params = replace(
            params,
            caption=CAPTION,
            lyrics=LYRICS,
            **(METADATA if case.preset == FIXED else {}),
        )
    params = replace(
        params,
        duration=None if _own_length_s(params) == case.duration_s else case.duration_s,
        thinking=case.lm and not TASKS[params.task_type].source,
        inference_steps=case.steps,
        **({SHIFT: choices[SHIFT]} if SHIFT in choices else {}),
    )
    seeds = item_seeds(case.seed, case.batch_size)
    config = replace(start.config, seeds=None, batch_size=case.batch_size)
    return Asked(params, replace(config, seeds=seeds), start.left_out)


def usual(choices: Choices, preset: str | None) -> Usual:
    """See `harness.tiers.TierSubject.usual`."""
    params, config, _ = _read(choices, preset)
    return Usual(
        preset=config.preset,
        duration_s=_own_length_s(params) or params.duration or PRESETS[config.preset].duration_s,
        batch_size=config.batch_size,
        steps=params.inference_steps or STEPS,
        seed=config.seeds[0] if config.seeds else DEFAULT_SEED,
    )


def _read(choices: Choices, preset: str | None) -> Asked:
    """The request of a file, which may name its preset, else an empty one. Raises as `load_example` does."""
    from acestep.cli.examples import load_example, music_example
    from acestep.cli.upstream import LeftOut

    left_out, chosen = LeftOut(Adjustments(strict=False)), PRESETS.get(preset or "")
    if REQUEST not in choices:
        chosen = chosen or PRESETS[FIXED]
        return Asked(chosen.params, chosen.config, left_out)
    path: Path = music_example(str(choices[REQUEST]))
    return Asked(*load_example(path, left_out, chosen), left_out)


def _own_length_s(params: GenerationParams) -> float | None:
    """Seconds of the recording that is worked on, or of the codes; None where the request says the length."""
    from acestep.audio import recordings

    if params.src_audio:
        source_s = recordings.survey(params, LONGEST_S, Adjustments(strict=False)).source_s
        return source_s and (painted_s(params, source_s) if TASKS[params.task_type].region else source_s)
    codes = audio_codes.parse(params.audio_codes)
    return len(codes) / CODES_PER_SECOND if codes else None
