"""Generate music from an example request, or write a synthetic checkpoint.

python -m acestep generate --example example_05.json
python -m acestep generate --example example_01.json --source synthetic-full --no-thinking --json
python -m acestep write-checkpoint synthetic-tiny checkpoints
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import AceStepError, MissingPrerequisite, UsageError
from acestep.examples import load_example
from acestep.request import GenerationConfig, GenerationParams, item_seeds
from acestep.sources import LMS, SYNTHETIC, choose_source

if TYPE_CHECKING:
    from acestep.result import GenerationResult

EXAMPLES = Path("examples/text2music")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0, 1 failed, 2 usage, 3 missing prerequisite, 130 Ctrl-C)."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except AceStepError as error:
        print(f"acestep: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("acestep: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m acestep",
        description="ACE-Step 1.5 text to music, measured.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="text to music from an example request")
    generate.set_defaults(run=_generate)
    add = generate.add_argument
    add("--example", default="example_05.json", help=f"a file, or a name under {EXAMPLES} (%(default)s)")
    add(
        "--source",
        help=f"{', '.join(SYNTHETIC)} or a checkpoint folder (ACESTEP_SOURCE, then this machine's)",
    )
    add("--lm", default=LMS[0], choices=[*LMS, "none"], help="5 Hz language model (%(default)s)")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--dtype", default="auto", choices=["auto", "bf16", "fp16", "fp32"], help="(%(default)s)")
    add("--threads", type=int, help="CPU threads (torch's choice)")
    add("--duration", type=float, help="seconds of audio (from the example)")
    add("--steps", type=int, help="diffusion steps (from the example)")
    add("--batch-size", type=int, help="items (from the example)")
    add("--seed", type=int, help="seed of the first item (from the example, else 42)")
    add("--thinking", action=argparse.BooleanOptionalAction, help="plan audio codes (from the example)")
    add("--format", default="wav", choices=["wav", "flac"], help="audio format (%(default)s)")
    add("--out", type=Path, default=Path("outputs"), help="folder for the audio (%(default)s)")
    add("--json", action="store_true", help="print the record as one JSON line instead of the table")

    write = commands.add_parser("write-checkpoint", help="write a synthetic checkpoint folder")
    write.set_defaults(run=_write)
    write.add_argument("source", choices=SYNTHETIC)
    write.add_argument("folder", type=Path, help="checkpoint root to create or complete")
    write.add_argument("--lm", action="append", choices=LMS, help="language models (0.6B)")
    write.add_argument("--seed", type=int, default=0, help="same seed, same bytes (%(default)s)")
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    path = Path(arguments.example)
    params, config = load_example(path if path.exists() or path.parent != Path() else EXAMPLES / path)
    overrides = {
        "duration": arguments.duration,
        "inference_steps": arguments.steps,
        "thinking": arguments.thinking,
    }
    params = dataclasses.replace(params, **{k: v for k, v in overrides.items() if v is not None})
    config = _config(config, arguments)
    lm = None if arguments.lm == "none" else arguments.lm
    if arguments.threads is not None and arguments.threads < 1:
        raise UsageError(f"--threads: {arguments.threads} is not allowed; use 1 or more")
    choose_source(arguments.source, accelerator=False)  # refuse a wrong path before torch is imported

    params, config = _within_tier(params, config, arguments.device, lm)

    # Threads that spin while they wait turn one busy core into a run five times as long. OpenMP reads
    # this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from acestep.engine import Engine

    engine = Engine.load(
        arguments.source, device=arguments.device, dtype=arguments.dtype, lm=lm, threads=arguments.threads
    )
    result = engine.generate(params, config, arguments.out)
    if arguments.json:
        print(json.dumps(record(result, engine.load_s)))
    else:
        _print_table(result, engine.load_s)
    for warning in result.warnings:
        print(f"acestep: warning: {warning}", file=sys.stderr)
    return 1 if any(item.silent for item in result.audios) else 0


def _within_tier(
    params: GenerationParams, config: GenerationConfig, device: str, lm: str | None
) -> tuple[GenerationParams, GenerationConfig]:
    """Bring the request within the graphics card's tier, with a warning per change.

    A CPU has no tier unless MAX_CUDA_VRAM simulates a card's size.
    """
    from acestep import gpu_config

    found = gpu_config.detect(device)
    if found.device == "cpu" and not found.simulated:
        return params, config
    print(f"acestep: {gpu_config.describe(found)}", file=sys.stderr)
    limits = gpu_config.config_for(found)
    duration, batch, clamps = gpu_config.clamp(limits, params.duration, config.batch_size, lm is not None)
    for clamp in clamps:
        print(f"acestep: warning: {clamp}", file=sys.stderr)
    seeds = config.seeds[:batch] if config.seeds else None
    config = dataclasses.replace(config, batch_size=batch, seeds=seeds)
    return dataclasses.replace(params, duration=duration), config


def _config(config: GenerationConfig, arguments: argparse.Namespace) -> GenerationConfig:
    batch = config.batch_size if arguments.batch_size is None else arguments.batch_size
    first = arguments.seed if arguments.seed is not None else (config.seeds or (42,))[0]
    GenerationConfig(batch_size=batch)  # refuse a bad size before making seeds for it
    return GenerationConfig(batch, item_seeds(first, batch), arguments.format)


def record(result: GenerationResult, load_s: float) -> dict[str, Any]:
    """A result as plain JSON values, without the waveforms."""
    audios = [
        {
            "path": str(a.path) if a.path else None,
            "seed": a.seed,
            "peak": a.peak,
            "rms": a.rms,
            "silent": a.silent,
        }
        for a in result.audios
    ]
    return {
        "wall_s": result.wall_s,
        "rtf": result.rtf,
        "load_s": load_s,
        "stages_s": dict(result.stages_s),
        "details_s": dict(result.details_s),
        "steps_s": list(result.steps_s),
        "counts": dataclasses.asdict(result.counts),
        "metadata": dict(result.metadata),
        "environment": dict(result.environment),
        "peak_memory_bytes": result.peak_memory_bytes,
        "audios": audios,
    }


def _print_table(result: GenerationResult, load_s: float) -> None:
    counts, ran = result.counts, result.environment
    print(f"{'stage':<14}{'seconds':>10}{'share':>8}")
    for stage, seconds in result.stages_s.items():
        print(f"{stage:<14}{seconds:>10.3f}{seconds / result.wall_s:>8.1%}")
    print(f"{'wall':<14}{result.wall_s:>10.3f}{1:>8.1%}")
    facts = {
        "load": f"{load_s:.2f} s (not in the wall)",
        "audio": f"{len(result.audios)} x {counts.audio_s:g} s, real-time factor {result.rtf:.3f}",
        "memory": f"peak {result.peak_memory_bytes / 2**30:.2f} GiB",
        "ran": f"{ran['source']} on {ran['device_name']} ({ran['device']}, {ran['dtype']}, "
        f"{ran['threads']} threads), torch {ran['torch']}",
    }
    if counts.lm_decode_steps:
        prefill, decode = result.stages_s["lm_prefill"], result.stages_s["lm_decode"]
        facts["tokens"] = (
            f"prefill {counts.lm_prefill_tokens / prefill:.0f}/s, "
            f"decode {counts.lm_decode_tokens / decode:.0f}/s "
            f"({counts.lm_prefill_tokens} and {counts.lm_decode_tokens}, {ran['lm']}, {ran['lm_backend']})"
        )
    for name, fact in facts.items():
        print(f"{name:<8}{fact}")
    for item in result.audios:
        if item.path:
            print(f"{'saved':<8}{item.path}")


def _write(arguments: argparse.Namespace) -> int:
    from safetensors import SafetensorError

    from acestep.synthetic import Synthetic, write

    source = Synthetic(arguments.source, arguments.seed)
    try:
        folders = write(source, arguments.folder, tuple(arguments.lm or LMS[:1]))
    except (OSError, SafetensorError) as error:
        raise MissingPrerequisite(f"{arguments.folder}: cannot write the checkpoint: {error}") from None
    for folder in folders:
        print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
