"""What the card that is here means to ACE-Step, on one page: its tier, limits, defaults, and what to do next.

    MAX_CUDA_VRAM=8 python -m acestep                                # of a simulated card
    MAX_CUDA_VRAM=8 python -m acestep card --policy upstream-2026    # by another policy

Nothing is loaded and torch is not imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from acestep import components, gpu_config
from acestep.gpu_config import GUIDE, GPUConfig
from acestep.request import DURATION_RANGE_S
from acestep.setup import COMPILED, Setup
from acestep.weights.layout import SYNTHETIC
from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator, torch_build
from harness.text import columns, harmless, wrapped_below

DETECTED = {
    "cuda": "by the NVIDIA driver, which gives name and memory",
    "mps": "Apple silicon; three quarters of its memory are the GPU's",
    "cpu": "the NVIDIA driver shows no card, so this is the host",
}
LABEL = 10  # columns
VISIBLE = "CUDA_VISIBLE_DEVICES"


def show(policy: str = GUIDE) -> int:
    """Print the page by a policy; returns the exit code. Raises UsageError for a size that is none."""
    # What the weights are changes nothing here.
    setup = Setup.choose(SYNTHETIC[0], want_lm=True, policy=policy)
    width = columns()
    for name, fact in _facts(setup):
        print("\n".join(wrapped_below(f"{name:<{LABEL}}{harmless(fact)}", width, LABEL)))
    commands = _next(setup.accelerator, policy)
    longest = max(map(len, commands))
    beside = longest + max(map(len, commands.values())) + 5 <= width
    print("\nnext")
    for command, purpose in commands.items():
        line = f"  {harmless(command):<{longest}}"
        print(f"{line}   {purpose}" if beside else f"{line.rstrip()}\n      {purpose}")
    return 0


def _facts(setup: Setup) -> Iterator[tuple[str, str]]:
    card, tier = setup.accelerator, setup.limits
    yield (
        "card",
        gpu_config.describe(card, setup.policy) if tier else f"{card.name}: {card.memory_gib:.2f} GiB",
    )
    yield "detected", _detected(card)
    yield "torch", _torch(card)
    if tier is None:
        yield "tier", f"none: a CPU is held to no limits but the engine's, {DURATION_RANGE_S[1]:g} s of audio"
    else:
        usual = gpu_config.tier_for(tier.class_gb, setup.policy)  # of a CUDA card
        yield from _limits(tier)
        yield "defaults", _usual(usual)
        yield "XL", _usual(usual.of_xl()) if usual.xl else "none: of an XL DiT the 2B of its kind is taken"
    here = _choices(setup.offloaded, setup.device, setup.quantization, setup.compiled)
    backend = f"; {setup.lm_backend} runs the LM: {setup.lm_backend_reason}" if setup.lm else ""
    yield "here", here + backend
    yield from (("note", note) for note in setup.notes)


def _detected(card: Accelerator) -> str:
    hidden = f" ({VISIBLE}={os.environ[VISIBLE]})" if card.device != "mps" and VISIBLE in os.environ else ""
    simulated = f"; {MAX_VRAM_VARIABLE} says the memory" if card.simulated else ""
    return DETECTED[card.device] + hidden + simulated


def _torch(card: Accelerator) -> str:
    build = torch_build()
    if build is None:
        return "not installed"
    if build.cuda:
        return f"{build.version}, built for CUDA {build.cuda}"
    return f"{build.version}, not built for CUDA" + ("; this card needs it" if card.device == "cuda" else "")


def _limits(tier: GPUConfig) -> Iterator[tuple[str, str]]:
    without = f"{tier.max_duration_s:g} s of audio, batch {tier.max_batch}"
    if not tier.lm_sizes:
        yield "limits", without
        yield "LM", "none: there is no room for one"
        return
    yield "limits", f"with LM {tier.max_duration_with_lm_s:g} s of audio, batch {tier.max_batch_with_lm}"
    yield "", f"without {without}"
    when = "loaded" if tier.load_lm else "loaded only where it is asked for"
    yield "LM", f"{', '.join(tier.lm_sizes)}; by default {tier.default_lm}, {when}"


def _usual(tier: GPUConfig) -> str:
    """How the models run on a CUDA card of the tier."""
    offloaded = components.offloaded(tier.offload_to_cpu, tier.offload_dit_to_cpu)
    return _choices(offloaded, "card", tier.quantization, COMPILED["cuda"] if tier.compile else ())


def _choices(
    offloaded: tuple[str, ...], device: str, quantization: str | None, compiled: tuple[str, ...]
) -> str:
    """How the models run, in words."""
    return "; ".join(
        (
            components.describe(offloaded, device),
            f"the DiT in {quantization}" if quantization else "nothing is quantized",
            f"compiled: {', '.join(compiled)}" if compiled else "nothing is compiled",
        )
    )


def _next(card: Accelerator, policy: str = GUIDE) -> dict[str, str]:
    """Three commands, spelled as this one was, and what they are for."""
    start = "uv run " if "UV" in os.environ else ""
    start += "python -m " if Path(sys.argv[0]).name == "__main__.py" else ""
    size, tiers = "", ""
    if card.simulated:
        size = f"{MAX_VRAM_VARIABLE}={os.environ[MAX_VRAM_VARIABLE]} "
        tiers = f" --tiers {card.memory_gib:g}"
    by = "" if policy == GUIDE else f" --policy {policy}"
    return {
        f"{size}{start}acestep generate --dry-run{by}": "what an example comes to here",
        f'{size}{start}acestep generate --caption "a waltz" --duration 10{by}': "make music; see --help",
        f"{start}tiersim{tiers}{by}": "one generation: does it fit?",
    }
