"""Pages that answer, in front of the explorer: what changed, what fits, how fast, one against another.

`asv publish` writes them (`scripts.asv_site`) from what asv measured of every commit. Each is a file by
itself that loads nothing from elsewhere: it works offline, from any folder of a server, and from disk.

A page has a module and a template of its name (`fits.py`, `fits.html`), and parts that begin with it
(`fits_record.py`). What pages share: the frame (`page.py`, `layout.html`), what moved (`shifts.py` and
`.html`) and charts (`charts.py`, `figure.html`).
"""

from __future__ import annotations

from pathlib import Path

from scripts.site import charts, commit, compare, fits, speed, start
from scripts.site.page import Site

HERE = Path(__file__).parent
STATIC = ("site.css", "site.js", "compare.js", "verdicts.js", "favicon.svg")
PAGES = (commit.pages, fits.pages, speed.pages, compare.pages, start.pages)  # the door stands in a whole site


def write(site: Site, html: Path) -> None:
    """Write all pages into the folder `html`, and what they load."""
    charts.install(html)
    for name in STATIC:
        (html / name).write_bytes((HERE / name).read_bytes())
    for pages in PAGES:
        for page in pages(site):
            (html / page.name).write_text(page.content, "utf-8")
