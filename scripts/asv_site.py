"""The site `asv publish` writes: a user interface that works offline and knows which way is up.

    asv publish && asv preview        # .asv/results -> .asv/html, which any static server will do for

Its pages find changes as `scripts.changes` does, whose thresholds asv.conf.json repeats.

asv's own pages load ten files from three CDN hosts and read every rise as a loss. This plugin puts
asv-tachyon in their place, which brings its assets along and honours `less_is_better`. Three things are
left to do: write the files it looks for and asv does not write (a missing one is a console error on every
page), give the commits their subjects, and make units readable.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

from asv.graph import Graph
from asv.publishing import OutputPublisher
from asv.util import is_na

from scripts.changes.history import WITHOUT_NOISE
from scripts.changes.points import segments
from scripts.site import write
from scripts.site.page import measured

STOCK_PAGES = ("*.js", "*.css", "*.html", "swallow.*")
# In the bundle of the pinned asv-tachyon: what it calls every rate above a thousand, though the unit is shown
# beside it; and the pixels of an axis, which cut off the digits of "1.157e+11 FLOP".
REPLACED = {'"kops/s"': '"k/s"', '"Mops/s"': '"M/s"', ",size:64,": ",size:144,"}
# On a machine without a GPU, four filters whose only choice is "none". Names wider than their column. Eighty
# buttons between a name and its chart.
STYLE = """<style>
    .filter:has(option[value="none"]:only-child) { display: none }
    .bench-item .name { overflow-wrap: anywhere }
    .param-chips { max-height: 10rem; overflow-y: auto }
  </style>"""


def setup() -> None:
    """Called by asv once it has imported its plugins."""
    Graph.detect_steps = detect_steps


def detect_steps(graph: Graph, pool: object = None) -> None:
    """The levels of every series of a graph, in asv's form: revisions from and to, median, least, and mean
    distance from the median."""
    exact = re.search(WITHOUT_NOISE, graph.benchmark_name) is not None
    points = [
        (point[0], point[1] if isinstance(point[1], list) else [point[1]]) for point in graph.get_data()
    ]
    graph._steps = []
    for number in range(graph.n_series):
        known = [(revision, row[number]) for revision, row in points if not is_na(row[number])]
        revisions, values = zip(*known, strict=True) if known else ((), ())
        graph._steps.append([
            (revisions[start], revisions[stop - 1] + 1, level, min(values[start:stop]), distance)
            for start, stop, level, distance in segments(values, exact=exact)
        ])  # fmt: skip


class Site(OutputPublisher):
    """Runs last among asv's publishers: the graphs are written, the index follows."""

    name, button_label, description = "site", "Site", "asv-tachyon"

    @classmethod
    def publish(cls, conf, repo, benchmarks, graphs, revisions):
        html = Path(conf.html_dir)
        for pattern in STOCK_PAGES:
            for file in html.glob(pattern):
                file.unlink()
        install(html)
        for name in [name for name in benchmarks if not graphs.get_graph_group(name)]:
            del benchmarks[name]  # of the index that follows: nothing of it was measured, so there is no file
        optional = {
            "commits.json": {commit: subject(commit) for commit in revisions},
            "profiles.json": {"paths": {}},
            "regressions-ignore.json": [],
        }
        optional |= {
            f"samples/{file.relative_to(html / 'graphs')}": {} for file in html.glob("graphs/**/*.json")
        }
        for name, content in optional.items():
            (html / name).parent.mkdir(parents=True, exist_ok=True)
            (html / name).write_text(json.dumps(content), "utf-8")
        write(measured(), html)


def install(html: Path) -> None:
    """Copy the user interface, with our style and what is REPLACED; RuntimeError where that is not there."""
    import asv_tachyon

    shutil.copytree(Path(asv_tachyon.__file__).with_name("static"), html, dirs_exist_ok=True)
    index, explorer = html / "index.html", html / "explorer.html"
    explorer.write_text(index.read_text("utf-8").replace("</head>", f"  {STYLE}\n  </head>"), "utf-8")
    index.unlink()
    (bundle,) = html.glob("assets/index-*.js")
    code = bundle.read_text("utf-8")
    for theirs, ours in REPLACED.items():
        if code.count(theirs) != 1:
            raise RuntimeError(f"{bundle.name} has not one {theirs}: asv-tachyon changed, look at REPLACED")
        code = code.replace(theirs, ours)
    bundle.write_text(code, "utf-8")


def subject(commit: str) -> str:
    """First line of the commit's message."""
    return subprocess.run(
        ["git", "log", "-1", "--format=%s", commit], capture_output=True, text=True
    ).stdout.strip()
