"""What a page of the docs points to is there, and every benchmark has a place in one of them."""

import argparse
import re

import pytest
from places import ROOT

from acestep.profiler.flags import flag_of
from acestep.profiler.flags import parser as profiler
from scripts.gate.suites import every
from subjects.qwen3_tts.__main__ import parser as speech

NAMES = ("performance-plan", "qwen3-tts")
PAGES = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in NAMES}
SUBJECT_ROWS = re.findall(r"^\| (Q\d\d) \| (.*?) \| (.*?) \| (.*?) ?\|$", PAGES["qwen3-tts"], re.MULTILINE)


def held_by(page: str) -> list[str]:
    """What the last column of every table names."""
    rows = re.findall(r"^\| .* \| (.*?) ?\|$", PAGES[page], re.MULTILINE)
    return [name for cell in rows for name in re.findall("`([^`]+)`", cell)]


def flags(page: str) -> set[str]:
    """Of the profiler, or of the subject's runner."""
    if page == "performance-plan":
        return set(map(flag_of, profiler().modes_of))
    (commands,) = (one for one in speech()._actions if isinstance(one, argparse._SubParsersAction))
    return set(commands.choices["bench"]._option_string_actions)


@pytest.fixture(scope="module")
def suites() -> set[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return {one.suite.__name__ for one in every()}


def is_there(name: str, page: str, suites: set[str]) -> bool:
    if name.startswith("make "):
        return re.search(rf"^{name[5:]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if name.startswith("python -m "):
        place = ROOT / name[10:].replace(".", "/")
        return place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    if name.startswith("--"):
        return name in flags(page)
    return name in suites or ("/" in name and (ROOT / name).exists())


@pytest.mark.parametrize("page", NAMES)
def test_what_holds_a_row_is_there(page, suites):
    assert not {name for name in held_by(page) if not is_there(name, page, suites)}
    for name in ("TrackNothing", "tests/absent.py", "make nothing", "python -m scripts.nothing", "--nothing"):
        assert not is_there(name, page, suites)


def test_no_benchmark_is_left_out(suites):
    assert suites <= {name for page in NAMES for name in held_by(page)}


def test_each_row_of_the_subjects_plan_has_one_place_or_says_why_it_has_none():
    assert [row for row, *_ in SUBJECT_ROWS] == [f"Q{number:02}" for number in range(1, 53)]
    assert {row for row, _, here, held in SUBJECT_ROWS if here.startswith("n/a: ") == bool(held)} == set()
