"""Report of a prediction of ACE-Step, for a terminal of 80 columns. No torch import here."""

from __future__ import annotations

from collections.abc import Mapping

from harness.trace import report
from harness.trace.cost import Cost

OFFLOADED = {  # by what of the engine is, the DiT apart
    (False, False): "nothing",
    (True, False): "all but the DiT",
    (False, True): "the DiT",
    (True, True): "all",
}


def text(cost: Cost) -> str:
    """All of it (`harness.trace.report`)."""
    return report.text(cost, facts(cost))


def facts(cost: Cost) -> dict[str, str]:
    """What was resolved: card and plan."""
    card, plan = cost.card, cost.plan
    name = plan["card"] if plan["tier"] else f"{card.name}: {card.memory_gib:.2f} GiB"
    length = "as long as the LM says" if plan["duration_s"] is None else f"{plan['duration_s']:g} s"
    request = f"{plan['task_type']}, {plan['batch_size']} x {length}, {plan['steps']} steps"
    lm = f"{plan['lm']} {'plans' if plan['lm_codes'] else 'idle'}" if plan["lm"] else "no LM"
    lm += f" in {plan['lm_quantization']}" if plan["lm_quantization"] else ""
    offload = OFFLOADED[plan["offload_to_cpu"], plan["offload_dit_to_cpu"]]
    return {
        "card": name,
        "rates": report.card_rates(cost),
        "preset": preset(cost),
        "plan": f"{request}; {plan['dit']}, {plan['quantization'] or 'not quantized'}, {lm}, "
        f"{offload} offloaded",
        **({"placed": _placed(plan["place"])} if "place" in plan else {}),
        "weights": f"shapes of {plan['source']}{formats(cost)}, run by {engine(cost)}",
    }


def _placed(place: Mapping[str, str]) -> str:
    """Where parts are that are not on the first card."""
    return ", ".join(
        f"{part} stays on {device}{'' if device.startswith('cuda') else ', whose work is not predicted'}"
        for part, device in place.items()
    )


def formats(cost: Cost) -> str:
    """How numbers are stored, and what is fp32 where the rest is not."""
    dtype, islands = cost.environment["dtype"], cost.environment["islands"]
    return f" in {dtype}{f', {islands} in float32' if islands else ''}" if dtype else ""


def engine(cost: Cost) -> str:
    """What runs the kernels, and what that rests on."""
    compiled = cost.environment["compiled"]
    kernels = f"compiled PyTorch ({compiled})" if compiled else "eager PyTorch"
    return f"{kernels}, steps as graphs" if cost.plan["graphs"] else kernels


def preset(cost: Cost) -> str:
    """The preset of the request, and what it brought to it."""
    plan = cost.plan
    values = ", ".join(f"{name}={value}" for name, value in plan["preset_values"].items())
    return f"{plan['preset']}: {values}" if values else plan["preset"]
