"""The axes of what is measured, as data."""

TINY = "synthetic-tiny"
TINY_DURATIONS_S = (5, 15)
GUIDE_DURATIONS_S = (30, 60, 120, 240)

DURATIONS_S = tuple(sorted({*TINY_DURATIONS_S, *GUIDE_DURATIONS_S}))
SHORTEST_S = (TINY_DURATIONS_S[0], GUIDE_DURATIONS_S[0])  # of each source
BATCHES = (1, 2, 4)
THINKING = (False, True)
STEPS = (8, 16)
STAGES = (
    "offload",
    "load_audio",
    "vae_encode",
    "lm_prefill",
    "lm_decode",
    "text_encode",
    "condition",
    "diffuse",
    "vae_decode",
    "post",
    "save",
    "other",
)
LM_STAGES = ("offload", "lm_prefill", "lm_decode", "other")
TASKS = ("cover", "repaint", "lego", "extract", "complete", "reference")  # text2music is everything above
TEXT_MODES = ("understand", "create", "format")
METHODS = ("ode", "sde", "heun")
GUIDANCE = ("none", "apg", "adg", "cfg")
CHUNKS_S = (1, 0.25)  # of a stream; the first is the engine's own
PRESETS = ("fixed", "upstream")  # where a cell says nothing of it, the first: its request fixes all work
TIERS_GB = (4, 6, 8, 12, 16, 20, 24)
WITH_LM = (False, True)
VARIANTS = ("default", "no-quant", "no-offload")
DITS = ("turbo", "xl-turbo")  # of tiers: where a cell says nothing of it, the first
BACKENDS = ("pt", "vllm", "mlx")
QUANTIZATIONS = ("none", "int8_weight_only", "fp8_weight_only", "w8a8_dynamic")
COMPILE = (False, True)
DIT_OUTPUTS = ("velocity", "latents", "audio")  # of a step, of all steps, and what is heard of it
TOKENS = ("greedy", "drawn")  # the likeliest, and those that the same random numbers choose
PHASES = ("start", "import_torch", "import_engine", "load", "compile", "first", "steady")
# What a token is one of, in text, in codes, and anywhere.
TEXT_TOKENS, CODE_TOKENS, LM_TOKENS = 151_669, 64_000, 217_204
# Axes of functions by themselves, by kind of cell; the first value of each is the one others vary around.
MICRO: dict[str, dict[str, tuple]] = {
    "mask": {
        "state": (
            "open", "forced", "bpm", "caption", "caption-end", "duration", "genres", "keyscale", "language",
            "timesignature", "lyrics",
        ),
        "vocabulary": (TEXT_TOKENS, 1_000, 32_000, CODE_TOKENS),
    },
    "sampling": {
        "sampler": (
            "whole", "greedy", "temperature", "top-k-1", "top-k-50", "top-k-200", "top-p-0.5", "top-p-0.9",
            "top-p-0.95", "penalty-0", "penalty-100", "penalty-1500",
        ),
        "vocabulary": (CODE_TOKENS, 1_000, 32_000, TEXT_TOKENS, LM_TOKENS),
        "rows": (1, 2, 8),
        "logits": ("peaked", "flat"),
    },
    "codes": {"codes_s": (10, 60, 240, 600)},
    "resample": {
        "rates": ("44100-48000", "16000-48000", "48000-16000", "12000-24000"),
        "audio_s": (2, 0.5, 10, 60, 300),
        "channels": (2, 1),
    },
    "mel": {"voice_s": (2, 0.5, 10, 30)},
    "span": {"reader": ("nobody", "recording")},
}  # fmt: skip
# What there is of an axis that the filter does not name.
MICRO_UNLESS_NAMED = {"codes_s": (10, 60), "voice_s": (2, 0.5, 10)}
# What grows with length, and at which: of audio in seconds, of a prompt in tokens.
SCALED = ("lm_decode", "dit_step", "vae_encode", "vae_decode", "resample", "text_encode", "mel")
OF_TOKENS = ("text_encode",)
TINY_LENGTHS_S, GUIDE_LENGTHS_S, CARD_LENGTHS_S = (
    (5, 10, 20),
    (5, 30, 60, 180, 300),
    (5, 30, 60, 180, 300, 600),
)
LENGTHS_S = tuple(sorted({*TINY_LENGTHS_S, *CARD_LENGTHS_S}))
LENGTHS_TOKENS = (16, 32, 64, 128, 256)

# The first that is there, on every machine: a tier's own choice would make machines incomparable.
LMS = tuple(f"acestep-5Hz-lm-{size}" for size in ("0.6B", "1.7B", "4B"))

# Axes of other subjects, which ACESTEP_BENCH_CELLS names as SUBJECT.AXIS: no two subjects share one.
QWEN3_TTS = {
    "duration_s": (1.04, 5.04, 20.0),  # its short, medium and long inputs
    "batch_size": (1, 2),
    "chunk_frames": (4, 12),  # of a stream; the first is the engine's own
    "component": ("talker", "code_predictor", "decoder", "speaker_encoder"),
    "size": (1, 4, 32, 63, 188),  # rows, frames, frames of mel
    "model": ("0.6B-CustomVoice", "1.7B-CustomVoice"),  # of predictions
    "tier_gb": (4, 6),
}
SUBJECTS: dict[str, dict[str, tuple]] = {"qwen3_tts": QWEN3_TTS}

# What ACESTEP_BENCH_CELLS may narrow, and to what.
AXES: dict[str, tuple] = {
    "duration_s": DURATIONS_S,
    "batch": BATCHES,
    "thinking": THINKING,
    "steps": STEPS,
    "task": TASKS,
    "mode": TEXT_MODES,
    "method": METHODS,
    "guidance": GUIDANCE,
    "backend": BACKENDS,
    "quantization": QUANTIZATIONS,
    "compile": COMPILE,
    "output": (*DIT_OUTPUTS, *TOKENS),
    "tier_gb": TIERS_GB,
    "lm": WITH_LM,
    "variant": VARIANTS,
    "preset": PRESETS,
    "component": SCALED,
    "length_s": LENGTHS_S,
    "length_tokens": LENGTHS_TOKENS,
    "chunk_s": CHUNKS_S,
    "dit": DITS,
    **{name: values for axes in MICRO.values() for name, values in axes.items()},
    **{f"{subject}.{name}": values for subject, axes in SUBJECTS.items() for name, values in axes.items()},
}

COST_SOURCE = "synthetic-full"
COST_CARD = "RTX 4090"
COST_DITS = {name: f"acestep-v15-{name}" for name in ("turbo", "base", "xl-turbo")}
COST_DURATIONS_S = (30, 240)
COST_BATCHES = (1, 4)
COST_MODES = ("eager", "captured", "compiled+captured")  # what runs the kernels; captured: steps as graphs
COST_STAGES = ("lm_prefill", "lm_decode", "text_encode", "condition", "diffuse", "vae_decode", "post")

SPEECH_STAGES = ("prompt", "talker_prefill", "talker_decode", "sampling", "code_predictor", "decode")
SPEECH_FRAMES = 3  # of a predicted utterance: beside one of two, which says what a frame costs

WAITS_BATCHES = {"turbo": 1, "base": 2}  # by DiT
WAITS_MODES = COST_MODES[:2]
# Seconds and steps of two requests: 2 and 3 blocks of the KV cache, 2 and 4 tiles of each item.
WAITS_SIZES = ((30, 2), (70, 3))
