"""Values of each field that ask for something else than the default, and what the stages read of a plan."""

from collections.abc import Mapping
from typing import Any

from acestep.effective_plan import EffectivePlan
from acestep.text import audio_codes

METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4"}
CODES = audio_codes.join(range(65))
# Values other than the default, each of which asks for something else.
VALUES: dict[str, tuple[Any, ...]] = {
    "caption": ("a waltz", "slow dub " * 400),
    "lyrics": ("[Verse]\nLa la", ""),
    "duration": (3.3, 12.0, 47.0),
    "bpm": (96,),
    "keyscale": ("D minor",),
    "timesignature": ("3",),
    "vocal_language": ("en",),
    "instrumental": (True,),
    "reference_audio": ("SONG",),
    "audio_codes": (CODES,),
    "track_name": ("drums",),
    "complete_track_classes": (("bass", "drums"),),
    "repainting_start": (-2.0, 1.5),
    "repainting_end": (4.0, 9.0),
    "repaint_mode": ("aggressive", "conservative"),
    "repaint_strength": (0.0, 0.9),
    "repaint_injection_ratio": (0.0, 1.0),
    "repaint_latent_crossfade_frames": (0, 25),
    "repaint_wav_crossfade_sec": (0.0, 0.2),
    "chunk_mask_mode": ("explicit",),
    "flow_edit_morph": (True,),
    "flow_edit_source_caption": ("a waltz",),
    "flow_edit_source_lyrics": ("La la",),
    "flow_edit_n_min": (0.2,),
    "flow_edit_n_max": (0.7,),
    "flow_edit_n_avg": (2,),
    "audio_cover_strength": (0.0, 0.5),
    "cover_noise_strength": (0.01, 0.5, 1.0),
    "thinking": (True,),
    "use_cot_metas": (False,),
    "use_cot_caption": (True,),
    "use_cot_language": (True,),
    "use_constrained_decoding": (False,),
    "lm_temperature": (0.0, 1.2),
    "lm_cfg_scale": (1.0, 3.0),
    "lm_top_k": (50,),
    "lm_top_p": (0.5,),
    "lm_repetition_penalty": (1.2,),
    "lm_negative_prompt": ("noise",),
    "inference_steps": (1, 5),
    "shift": (2.0, 3.0),
    "timesteps": ((1.0,), (1.0, 0.75, 0.5)),
    "infer_method": ("sde", "heun"),
    "guidance_scale": (1.0, 4.0),
    "guidance_mode": ("adg", "cfg"),
    "cfg_interval_start": (0.3, 1.0),
    "cfg_interval_end": (0.7, 0.001),
    "velocity_norm_threshold": (0.7,),
    "velocity_ema_factor": (0.2,),
    "dcw_enabled": (True,),
    "dcw_mode": ("low", "high", "pix"),
    "dcw_scaler": (0.1,),
    "dcw_high_scaler": (0.1,),
    "dcw_wavelet": ("db4",),
    "retake_variance": (0.3,),
    "retake_seed": (5,),
    "latent_shift": (0.1,),
    "latent_rescale": (1.1,),
    "enable_normalization": (True,),
    "normalization_db": (-3.0,),
    "fade_in_duration": (0.5,),
    "fade_out_duration": (0.5,),
}
PLACES = ("task_type", "src_audio")  # where the others are tried
# What asks for nothing to be done is done where nothing would be.
NOTHING = {"use_cot_metas": False, "guidance_scale": 1.0}


def runs(plan: EffectivePlan) -> Mapping[str, Any]:
    """What the stages read of a plan, each under the condition under which they read it. Written down beside
    the stages, and not from the table that is tested."""
    request, times = plan.params, plan.times
    covers = bool(request.src_audio if request.task_type == "cover" else False) or bool(
        request.audio_codes or plan.lm_codes
    )
    painted = request.task_type in ("repaint", "lego")
    start, end = request.repainting_start, request.repainting_end
    whole = painted and start <= 0 and not 0 <= end < (plan.source_s or 0)
    heun = request.infer_method == "heun" and not request.flow_edit_morph
    ends = [0.0] if heun and not plan.setup.turbo else []  # where a base model's last corrector looks
    follows = len(times) + len(ends) > 1  # more than one velocity
    guided = not plan.setup.turbo and request.guidance_scale != 1
    guided = guided and any(
        request.cfg_interval_start <= t <= request.cfg_interval_end for t in (*times, *ends)
    )
    lm, thinks = plan.lm_metadata or plan.lm_codes, plan.lm_metadata
    names_language = thinks and request.use_cot_language and request.use_constrained_decoding
    kept = (
        request.repaint_injection_ratio,  # as it follows from mode and strength
        request.repaint_latent_crossfade_frames,
        request.repaint_wav_crossfade_sec,
        request.chunk_mask_mode,
    )
    read = {
        "always": (times, plan.instructions, plan.components, request.caption, request.duration),
        "told": plan.text_duration_s,
        "song": (request.bpm, request.keyscale, request.timesignature, request.src_audio),
        "inputs": (request.reference_audio, request.audio_codes, plan.lm_metadata, plan.lm_codes),
        "lyrics": request.instrumental or request.lyrics,
        "language": (request.vocal_language, names_language),
        "method": follows and request.infer_method,
        "region": painted and (start, end),
        "kept": painted and not whole and kept,
        "edit": request.flow_edit_morph and (plan.edits, request.src_audio),
        "edited": plan.edits
        and (
            request.flow_edit_source_caption,
            request.flow_edit_source_lyrics,
            request.flow_edit_n_avg,
        ),
        "velocity": (request.velocity_norm_threshold, follows and request.velocity_ema_factor),
        "wavelets": follows
        and request.dcw_enabled
        and (
            request.dcw_mode,
            request.dcw_scaler,
            request.dcw_mode == "double" and request.dcw_high_scaler,
            request.dcw_mode != "pix" and request.dcw_wavelet,
        ),
        "retake": request.retake_variance and (request.retake_variance, request.retake_seed),
        "latents": (request.latent_shift, request.latent_rescale),
        "level": request.enable_normalization and request.normalization_db,
        "fades": (request.fade_in_duration, request.fade_out_duration),
        "cover": covers and (request.audio_cover_strength, request.cover_noise_strength),
        "scale": guided and (request.guidance_scale, request.guidance_mode),
        "interval": not plan.setup.turbo
        and request.guidance_scale != 1
        and (request.cfg_interval_start, request.cfg_interval_end),
        "thought": thinks
        and (request.use_cot_caption, request.use_cot_language, request.use_constrained_decoding),
        "sampling": lm and (request.lm_temperature, request.lm_repetition_penalty),
        "nucleus": lm and request.lm_temperature > 0 and (request.lm_top_k, request.lm_top_p),
        "guided codes": plan.lm_codes and request.lm_cfg_scale,
        "negative": plan.lm_codes and request.lm_cfg_scale > 1 and request.lm_negative_prompt,
    }
    return read
