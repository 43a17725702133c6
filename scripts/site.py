"""Build the site: `asv publish`, then a user interface that works offline and knows which way is up.

    python -m scripts.site        # .asv/results -> .asv/html, any static server will do

asv's own pages load ten files from three CDN hosts and read every rise as a loss. asv-tachyon brings its
assets along and honours `less_is_better`. It leaves four things to do here: the stock pages go, the files
it looks for and asv does not write appear (a missing one is a console error on every page), commits get
their subjects, and its words for a rate go.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HTML = Path(".asv/html")
# What the bundle of the pinned asv-tachyon calls every rate above a thousand; the unit is shown beside it.
RATE_WORDS = {'"kops/s"': '"k/s"', '"Mops/s"': '"M/s"'}
# On a machine without a GPU, four filters whose only choice is "none".
STYLE = '<style>.filter:has(option[value="none"]:only-child) { display: none }</style>'
STOCK_PAGES = ("*.js", "*.css", "error.html", "swallow.*")


def build(html: Path = HTML) -> None:
    """Publish every result of `.asv/results` into `html`, which asv empties first."""
    _run("asv", "publish", "--html-dir", str(html))
    for pattern in STOCK_PAGES:
        for file in html.glob(pattern):
            file.unlink()
    _run("asv_tachyon", "install", "--no-backup", str(html))
    adapt(html)
    complete(html)


def adapt(html: Path) -> None:
    """No empty filters, no foreign unit on the rates."""
    index = html / "index.html"
    index.write_text(index.read_text("utf-8").replace("</head>", f"  {STYLE}\n  </head>"), "utf-8")
    (bundle,) = (html / "assets").glob("index-*.js")
    code = bundle.read_text("utf-8")
    for theirs, ours in RATE_WORDS.items():
        if theirs not in code:
            raise SystemExit(f"site: {bundle.name} has no {theirs}; asv-tachyon changed, look at RATE_WORDS")
        code = code.replace(theirs, ours)
    bundle.write_text(code, "utf-8")


def complete(html: Path) -> None:
    """Write the optional files of asv-tachyon."""
    index = json.loads((html / "index.json").read_text("utf-8"))
    subjects = {commit: _subject(commit) for commit in index["revision_to_hash"].values()}
    optional = {"commits.json": subjects, "profiles.json": {"paths": {}}, "regressions-ignore.json": []}
    for name, content in optional.items():
        (html / name).write_text(json.dumps(content), "utf-8")
    for graph in (html / "graphs").rglob("*.json"):
        samples = html / "samples" / graph.relative_to(html / "graphs")
        samples.parent.mkdir(parents=True, exist_ok=True)
        samples.write_text("{}")


def _subject(commit: str) -> str:
    shown = subprocess.run(["git", "log", "-1", "--format=%s", commit], capture_output=True, text=True)
    return shown.stdout.strip()


def _run(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"site: {module} {arguments[0]} ended with status {done.returncode}")


if __name__ == "__main__":
    build()
    print(f"site: {HTML / 'index.html'} (asv preview serves it)")
