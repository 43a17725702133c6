"""What a page of the docs points to is there, and every benchmark has a place in it."""

import re

from places import ROOT

from acestep.profiler.flags import flag_of, parser
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
