"""What a page of the docs points to is there, every benchmark has a place in it, tables are the code's."""

import re

from places import ROOT

from acestep.gpu_config import POLICIES, GPUConfig, tier_for
from acestep.profiler.flags import flag_of, parser
from harness import cards
from scripts.gate.suites import every

PAGE = (ROOT / "docs/performance-plan.md").read_text(encoding="utf-8")


def held_by() -> list[str]:
    """What the last column of every table names."""
    rows = re.findall(r"^\| .* \| (.*?) ?\|$", PAGE, re.MULTILINE)
    return [name for cell in rows for name in re.findall("`([^`]+)`", cell)]


def is_there(name: str, suites: set[str]) -> bool:
    if name.startswith("make "):
        return re.search(rf"^{name[5:]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if name.startswith("python -m "):
        place = ROOT / name[10:].replace(".", "/")
        return place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    if name.startswith("--"):
        return name in map(flag_of, parser().modes_of)
    return name in suites or ("/" in name and (ROOT / name).exists())


def test_what_holds_a_row_of_a_performance_plan_is_there_and_no_benchmark_is_left_out(monkeypatch):
    monkeypatch.chdir(ROOT)
    suites = {one.suite.__name__ for one in every()}
    assert not {name for name in held_by() if not is_there(name, suites)}
    assert suites <= {*held_by()}
    assert not is_there("TrackNothing", suites) and not is_there("tests/absent.py", suites)


def saving(offload_to_cpu: bool, offload_dit_to_cpu: bool, quantization: str | None) -> str:
    """What a tier saves, in words."""
    offloaded = "all" if offload_dit_to_cpu else "all but the DiT" if offload_to_cpu else ""
    words = ("int8" if quantization else "", f"{offloaded} offloaded" if offloaded else "")
    return ", ".join(filter(None, words)) or "nothing"


def row_of(size_gb: float, tier: GPUConfig) -> str:
    lms = ", ".join(f"**{size}**" if size == tier.default_lm else size for size in tier.lm_sizes)
    cells = (
        f"{size_gb:g} GB ({cards.example(size_gb)})",
        tier.tier,
        f"{tier.max_duration_s:g} s, {tier.max_batch}",
        f"{tier.max_duration_with_lm_s:g} s, {tier.max_batch_with_lm}" if lms else "n/a",
        lms or "none",
        saving(tier.offload_to_cpu, tier.offload_dit_to_cpu, tier.quantization),
        saving(tier.xl.offload_to_cpu, tier.offload_dit_to_cpu, tier.xl.quantization) if tier.xl else "no XL",
    )
    return f"| {' | '.join(cells)} |"


def test_the_tables_of_tiers_are_those_of_the_code():
    page = (ROOT / "docs/tiers.md").read_text(encoding="utf-8")
    for name, policy in POLICIES.items():
        table = page.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]
        rows = [line for line in table.splitlines() if line.startswith("| ") and " GB (" in line]
        assert rows == [row_of(size, tier_for(size, name)) for size in policy.tested_gb], name
