"""Pages of the site as a reader sees them, and planted histories that are shorter or measured more seldom."""

import math
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

from scripts.site.page import Site

APART = ("td", "th", "li", "p", "div", "small", "h2", "summary")
VOID = ("meta", "link", "br", "img", "input")


class Page(HTMLParser):
    """What a reader sees: text by class, the text of elements, links, and all elements in order."""

    def __init__(self, content):
        super().__init__()
        self.text, self.classes, self.links, self.elements, self.ids, self.current = "", {}, [], [], [], []
        self._open = []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.handle_data(" " if tag in APART else "")
        self.elements.append((tag, *sorted(named)))
        self.links += [named["href"]] if tag == "a" and named.get("href") else []
        self.ids += [named["id"]] if "id" in named else []
        self.current += [named["aria-current"]] if "aria-current" in named else []
        if tag not in VOID:
            self._open.append((tag, (named.get("class") or "").split()))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if any(tag in ("script", "style") for tag, _ in self._open):
            return
        self.text += data
        for name in {name for _, names in self._open for name in names}:
            self.classes[name] = self.classes.get(name, "") + data

    def shown(self, name=None):
        """The text in elements of a class, or all of it, on one line."""
        text = self.text if name is None else self.classes.get(name, "")
        return " ".join(text.split())


def measured_at(site, few, *places):
    """The site of the first machine, had it measured only at some places."""
    machine = few.machines[0]
    series = [
        replace(
            one,
            values=[value if at in places else math.nan for at, value in enumerate(one.values)],
            doubts={at: reason for at, reason in one.doubts.items() if at in places},
            gaps={at: reason for at, reason in one.gaps.items() if at in places},
        )
        for one in machine.series
    ]
    alone = replace(machine, series=series, measured={at: machine.measured[at] for at in places})
    now_s = datetime.fromisoformat(few.commits[places[-1]].date).timestamp() + 86_400
    return Site(replace(few, machines=[alone], releases={}), now_s)


def first_of(history, commits, benchmark=""):
    """The history's first commits, and the series of a benchmark."""
    machines = [
        replace(
            one, measured={at: when for at, when in one.measured.items() if at < commits},
            series=[
                replace(series, values=series.values[:commits], doubts={}, gaps={})
                for series in one.series
                if benchmark in series.benchmark
            ],
        )
        for one in history.machines
    ]  # fmt: skip
    return replace(history, commits=history.commits[:commits], machines=machines, releases={})


def failing(machine, last):
    """The machine with tasks alone, of which one has no number any more."""
    series = [
        replace(one, values=[*one.values[:-1], math.nan], gaps=one.gaps | {last: "failed"})
        if last in machine.measured and "TimeTask" in one.benchmark and "complete" in one.name
        else one
        for one in machine.series
        if "TimeTask" in one.benchmark
    ]
    return replace(machine, series=series)
