"""What all pages of the site have in common: what they are made from, and the frame around them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from harness.page import render
from scripts.changes.history import History, Machine, read
from scripts.changes.report import Report, report
from scripts.git import git

HERE = Path(__file__).parent
NAVIGATION = {
    "index.html": "Start",
    "fits.html": "Fits",
    "speed.html": "Speed",
    "compare.html": "Compare",
    "commit.html": "Commits",
    "explorer.html": "Explorer",
}
SHORT = 12  # characters of a commit's hash in the name of its page


class Page(NamedTuple):
    """A file of the site: its name, in the one folder that all are in, and what is in it."""

    name: str
    content: str


@dataclass(frozen=True)
class Site:
    """What pages are made from. `now_s`: when, in seconds since 1970. `address`: what stands before a
    commit's hash where its repository can be looked at; empty where nobody knows."""

    history: History
    now_s: float
    address: str = ""

    @cached_property
    def machines(self) -> list[str]:
        """What each machine of the history is called: its name, and where several share it, which it is."""
        names = [machine.facts.get("machine", "") for machine in self.history.machines]
        return [
            name if names.count(name) == 1 else f"{name}~{_mark(machine)}"
            for name, machine in zip(names, self.history.machines, strict=True)
        ]

    def apart(self, name: str) -> str:
        """In what the machine that is called `name` differs from its namesakes; empty where it has none."""
        called = dict(zip(self.machines, self.history.machines, strict=True))
        own = called[name]
        rivals = [one for one in called.values() if one.facts.get("machine") == own.facts.get("machine")]
        facts = [{**one.facts, "": one.environment} for one in rivals]
        every = dict.fromkeys(fact for one in facts for fact in one)
        differing = [fact for fact in every if len({one.get(fact) for one in facts}) > 1]
        return ", ".join(filter(None, ({**own.facts, "": own.environment}.get(fact) for fact in differing)))

    @cached_property
    def report(self) -> Report:
        """What changed, as `scripts.changes` tells it."""
        return report(self.history, self.now_s)

    def page(self, template: str, name: str, title: str, **values: Any) -> Page:
        """A page of a template of this folder, which extends layout.html. One that is not in the navigation
        itself is below the one whose name its own begins with."""
        above = next((page for page in NAVIGATION if name.startswith(f"{page.removesuffix('.html')}-")), None)
        content = render(
            HERE / template, title=f"{title} · acestep-bench", heading=title, here=name, above=above,
            navigation=NAVIGATION, made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.now_s)),
            site=self, **values,
        )  # fmt: skip
        return Page(name, content)


def commit_page(sha: str) -> str:
    """The name of a commit's page."""
    return f"commit-{sha[:SHORT]}.html"


def _mark(machine: Machine) -> str:
    """Sets machines of one name apart: the same ever after, as links have it."""
    facts = repr((sorted(machine.facts.items()), machine.environment))
    return f"{crc32(facts.encode()):08x}"[:4]


def measured() -> Site:
    """The site of the branch that is checked out. Raises MissingPrerequisite where nothing was measured."""
    return Site(read(), time.time(), _address())


def _address() -> str:
    """Where the commits of `origin` are shown, by the way GitHub, GitLab and their like have it."""
    place = re.fullmatch(
        r"(?:https://|ssh://)?(?:[\w.-]+@)?([\w-]+(?:\.[\w-]+)+)[:/]([\w.~/-]+?)(?:\.git)?/?",
        git("remote", "get-url", "origin", refused=""),
    )
    return f"https://{place[1]}/{place[2]}/commit/" if place else ""
