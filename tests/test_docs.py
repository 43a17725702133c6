"""What a page points to is there, a link leads to each, and every benchmark has a place in one of them."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import pages
import pytest
from places import ROOT

from acestep.profiler.flags import flag_of
from acestep.profiler.flags import parser as profiler
from scripts.gate.suites import every
from scripts.site.page import NAVIGATION
from subjects.qwen3_tts.__main__ import parser as speech
from subjects.rvc.__main__ import parser as conversion

README_WORDS = 1000  # and the rest is in docs/
SUBJECTS = {"qwen3-tts": speech, "rvc": conversion}  # the parsers of their commands
NAMES = ("performance-plan", *SUBJECTS)
PAGES = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in NAMES}
ROWS = {
    name: re.findall(r"^\| ([QR]\d\d) \| (.*?) \| (.*?) \| (.*?) ?\|$", PAGES[name], re.MULTILINE)
    for name in SUBJECTS
}


def test_the_readme_is_short():
    assert len(pages.text("README.md").split()) <= README_WORDS


def test_the_readme_names_every_page_of_the_site():
    assert {name for name in NAVIGATION.values() if name not in pages.text("README.md")} == set()


def broken(links: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Those that lead nowhere."""
    return [
        (path, anchor)
        for path, anchor in links
        if not path.exists() or (anchor and anchor not in pages.anchors(path))
    ]


def reached(start: Path, links: Mapping[Path, list[Path]]) -> set[Path]:
    """The pages that one comes to from `start`, by links."""
    seen, ahead = set(), [start]
    while ahead:
        page = ahead.pop()
        if page not in seen:
            seen.add(page)
            ahead += links.get(page, [])
    return seen


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    assert broken(pages.links(page)) == []


def test_a_link_that_leads_nowhere_is_seen():
    lost = [(ROOT / "docs/nothing.md", ""), (ROOT / "README.md", "nothing")]
    assert broken([*lost, (ROOT / "README.md", "acestep-bench")]) == lost


def test_from_the_readme_one_comes_to_every_page():
    links = {page: [path for path, _ in pages.links(page)] for page in pages.PAGES}
    assert reached(pages.README, links) >= {*pages.PAGES}
    alone = ROOT / "docs/alone.md"
    assert alone not in reached(pages.README, links | {alone: [pages.README]})


def held_by(page: str) -> list[str]:
    """What the last column of every table names."""
    rows = re.findall(r"^\| .* \| (.*?) ?\|$", PAGES[page], re.MULTILINE)
    return [name for cell in rows for name in re.findall("`([^`]+)`", cell)]


def commands(page: str) -> dict[str, argparse.ArgumentParser]:
    """Of the subject of a page, by name."""
    (every,) = (one for one in SUBJECTS[page]()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(every.choices)


def flags(page: str) -> set[str]:
    """Of the profiler, or of the subject's commands."""
    if page == "performance-plan":
        return set(map(flag_of, profiler().modes_of))
    return {flag for command in commands(page).values() for flag in command._option_string_actions}


@pytest.fixture(scope="module")
def suites() -> set[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return {one.suite.__name__ for one in every()}


def is_there(name: str, page: str, suites: set[str]) -> bool:
    if name.startswith("make "):
        return re.search(rf"^{name[5:]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if name.startswith("python -m "):
        module, *command = name[10:].split()
        place = ROOT / module.replace(".", "/")
        runs = place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
        return runs and (not command or command[0] in commands(page))
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


def test_every_benchmark_is_in_the_table_of_what_there_is(suites):
    assert suites <= {*pages.spans(pages.section("docs/measuring.md", "What there is"))}


@pytest.mark.parametrize(("page", "last"), [("qwen3-tts", "Q52"), ("rvc", "R39")])
def test_each_row_of_a_subjects_guide_has_one_place_or_says_why_it_has_none(page, last):
    assert [row for row, *_ in ROWS[page]] == [f"{last[0]}{n:02}" for n in range(1, int(last[1:]) + 1)]
    assert {row for row, _, here, held in ROWS[page] if here.startswith("n/a: ") == bool(held)} == set()


def test_every_command_of_rvc_but_its_own_is_a_script_of_the_guide():
    named = {name.split()[3] for name in held_by("rvc") if name.startswith("python -m subjects.rvc ")}
    assert named == commands("rvc").keys() - {"convert"}
    assert not is_there("python -m subjects.rvc nothing", "rvc", set())
