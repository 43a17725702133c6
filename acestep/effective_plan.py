"""The effective plan of a request: what will run, as the resolver has settled it. No torch import here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from acestep import components, gpu_config, length
from acestep.diffusion.schedule import evaluations
from acestep.presets import PRESETS
from acestep.request import GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.tasks import Task, instruction
from harness.adjustments import Adjustment, Warned


@dataclass(frozen=True, slots=True)
class EffectivePlan(Warned):
    """What will run. `params` and `config` hold the effective values; nothing in them is open but
    metadata, and `duration` when the language model is to decide it. What has no use is at its default.

    `requested`: names of the fields that were asked for and have a use, and of those that a repaint's mode
    stands for.
    """

    setup: Setup
    params: GenerationParams
    config: GenerationConfig
    task: Task
    instruction: str  # the instruction the DiT is conditioned on
    times: tuple[float, ...]  # of the diffusion steps
    lm_metadata: bool  # the LM's first phase runs
    lm_codes: bool  # and its second
    source_s: float | None  # length of the recording, before cropping and out-painting
    text_duration_s: float | None  # what the text is told; None where the LM decides it
    adjustments: tuple[Adjustment, ...]
    notes: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    edits: int = 0  # how many of the steps edit a recording, the first

    @property
    def request(self) -> dict[str, Any]:
        """The effective values of the fields that were asked for, by themselves or by a mode."""
        values = {name: getattr(self.params, name, None) for name in self.requested}
        return values | {
            name: getattr(self.config, name) for name in self.requested if hasattr(self.config, name)
        }

    @property
    def preset_values(self) -> dict[str, Any]:
        """What the preset sets, where nothing else was asked for."""
        values = PRESETS[self.config.preset].values(turbo=self.setup.turbo)
        return {name: value for name, value in values.items() if name not in self.requested}

    @property
    def instructions(self) -> tuple[str, ...]:
        """The task's, and that of text to music where later steps leave the source."""
        later = (instruction("text2music"),) if self.params.audio_cover_strength < 1 else ()
        return (self.instruction, *later)

    def length_s(self, planned_s: float | None = None) -> float:
        """Seconds of an item: the request's, else `planned_s` of the language model, else the preset's."""
        return self.params.duration or planned_s or length.unsaid_s(self.config, self.setup)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance runs."""
        return (self.params.guidance_scale or 1.0) > 1.0

    @property
    def lm_guided(self) -> bool:
        """Whether classifier-free guidance runs in the language model: while it plans codes."""
        return self.lm_codes and self.params.lm_cfg_scale > 1.0

    @property
    def evaluations(self) -> tuple[float, ...]:
        """Times of the DiT's forward passes, each of which every micro-batch takes."""
        params = self.params
        if params.flow_edit_morph:
            passes = 2 * params.flow_edit_n_avg
            return (*(t for t in self.times[: self.edits] for _ in range(passes)), *self.times[self.edits :])
        return tuple(evaluations(self.times, params.infer_method, turbo=self.setup.turbo))

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the networks this request runs, in the order they are loaded."""
        params = self.params
        covers = params.task_type == "cover"
        needed = {
            components.VAE_ENCODER: bool(params.src_audio or params.reference_audio),
            components.TIMBRE: bool(params.reference_audio),
            components.TOKENIZER: bool(covers and params.src_audio),
            components.DETOKENIZER: bool(covers or params.audio_codes or self.lm_codes),
            components.LM: self.lm_metadata or self.lm_codes,
        }
        return tuple(name for name in components.COMPONENTS if needed.get(name, True))

    def retaken(self, seed: int) -> EffectivePlan:
        """The plan with a retake seed that nobody named, which it says."""
        return replace(
            self,
            params=replace(self.params, retake_seed=seed),
            requested=(*self.requested, "retake_seed"),
            notes=(*self.notes, f"retake_seed: none was named; {seed} is drawn, which repeats this retake"),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for `--dry-run` and for the record of a run."""
        params, config, setup = self.params, self.config, self.setup
        runs, of_preset = asdict(params) | asdict(config), self.preset_values
        return {
            "source": setup.source,
            "dit": setup.dit,
            "variant": "turbo" if setup.turbo else "base",
            "lm": setup.lm,
            "lm_backend": setup.lm_backend or None,
            "lm_backend_reason": setup.lm_backend_reason or None,
            "device": setup.accelerator.device,
            "dtype": setup.dtype,
            "card": gpu_config.describe(setup.accelerator, setup.policy)
            if setup.limits
            else setup.accelerator.name,
            "tier": setup.limits.tier if setup.limits else None,
            "policy": setup.policy if setup.limits else None,
            "offload_to_cpu": setup.offload_to_cpu,
            "offload_dit_to_cpu": setup.offload_dit_to_cpu,
            **({"place": {each.part: each.device for each in setup.placed}} if setup.placed else {}),
            "quantization": setup.quantization,
            "lm_quantization": setup.lm_quantization,
            "compile": setup.compile,
            "graphs": setup.graphs,
            "components": list(self.components),
            "task_type": params.task_type,
            "instruction": self.instruction,
            "source_s": self.source_s,
            "duration_s": params.duration,
            "max_duration_s": setup.max_duration_s,
            "batch_size": config.batch_size,
            "lm_metadata": self.lm_metadata,
            "lm_codes": self.lm_codes,
            "steps": len(self.times),
            "times": list(self.times),
            "infer_method": params.infer_method,
            "guidance_scale": params.guidance_scale,
            "guidance_mode": params.guidance_mode if self.guided else None,
            "preset": config.preset,
            "preset_values": {name: value for name, value in of_preset.items() if runs[name] == value},
            "preset_unused": [name for name, value in of_preset.items() if runs[name] != value],
            "request": self.request,
            "adjustments": [asdict(a) for a in self.adjustments],
            "notes": list(self.notes),
        }
